"""The state folder that version 0.1 left behind when it was killed, unpacked for a test.

`state-0.1.tar.xz` holds the folder and what the old version said of it; `expected.json` names what is in it. README.md
describes both. `write_state.py` made them.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import os
import pwd
import tarfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

HERE = Path(__file__).parent
ARCHIVE = HERE / "state-0.1.tar.xz"
EXPECTED = HERE / "expected.json"

# The second and third image of a cluster's files repeat the first, 8 MiB apart.
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 128 * 2**20}]
_LEFT_OUT = {"state/logs", "state/postgres/postmaster.opts"}  # no state, and they name folders of the writer's machine


@dataclass(frozen=True)
class OldState:
    """Where the archive was unpacked."""

    folder: Path

    @property
    def state(self) -> Path:
        """What `unveil local --state` takes."""
        return self.folder / "state"

    @property
    def backup(self) -> Path:
        """What the old `unveil backup` wrote of the same state; its keyring is the one of the state folder."""
        return self.folder / "backup-0.1.tar"

    @property
    def keyring(self) -> Path:
        return self.state / "secrets" / "keyring"

    @cached_property
    def expected(self) -> dict[str, Any]:
        return dict(json.loads(EXPECTED.read_text()))

    @cached_property
    def answers(self) -> dict[str, dict[str, Any]]:
        """By account and path, what the old version answered to GET just before it was killed."""
        return dict(json.loads((self.folder / "answers.json").read_text()))

    @cached_property
    def redis(self) -> dict[str, Any]:
        """Every key that Redis held, as `old_version.dump_redis` reads it. The state folder's Redis holds the same."""
        return dict(json.loads((self.folder / "redis.json").read_text()))

    def image(self, name: str) -> bytes:
        """A PNG of `images/`, plain or protected."""
        return (self.folder / "images" / name).read_bytes()


def unpack(into: Path, archive: Path = ARCHIVE) -> OldState:
    """Unpack into an empty folder, so that PostgreSQL accepts its data: private, and not owned by root."""
    with tarfile.open(archive, "r:xz") as tar:
        tar.extractall(into, filter="tar")  # unlike `data`, keeps the modes of folders
    give_to_postgres(into / "state" / "postgres")
    return OldState(into)


def give_to_postgres(data: Path) -> None:
    """PostgreSQL refuses to run as root; started by root, `unveil local` runs it as the owner of its data."""
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (data, *data.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)


def pack(folder: Path, archive: Path) -> None:
    """Everything in `folder`, with modes and without owners."""

    def member(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return None if info.name in _LEFT_OUT else info

    with lzma.open(archive, "wb", filters=_FILTERS) as out, tarfile.open(fileobj=out, mode="w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name, filter=member)


def pixels_sha256(png: bytes) -> str:
    """SHA-256 of an image's size and RGB values, whatever its compression."""
    pixels = pixels_of(png)
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()


def pixels_of(png: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(PIL.Image.open(io.BytesIO(png)).convert("RGB"))
