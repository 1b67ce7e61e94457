"""Checkpoints of a training: where they are stored, and how a state becomes bytes.

The stored bytes are the SHA-256 of the serialized state, then the state.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from unveil.models.core.files import replace_file


class CheckpointStore(Protocol):
    """A place for checkpoints. Writes are atomic: a reader finds a whole checkpoint, the last or the one before."""

    def read(self, name: str) -> bytes | None:
        """The bytes stored under `name`; None if there are none or they cannot be decrypted."""

    def write(self, name: str, data: bytes) -> None:
        """Store `data` under `name`. Raises OSError, for example on a full disk, and keeps the checkpoint before."""

    def child(self, name: str) -> CheckpointStore:
        """A store with a separate namespace for one part of the work."""


@dataclass(frozen=True)
class DirectoryStore:
    """A store of unencrypted files in one folder, for use without the service."""

    path: Path

    def read(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        with replace_file(self.path / name, 0o666) as file:
            file.write(data)

    def child(self, name: str) -> DirectoryStore:
        return DirectoryStore(self.path / name)


def save(store: CheckpointStore, name: str, state: dict[str, Any]) -> None:
    """Write `state`, a dict of tensors and plain values. Raises OSError."""
    import torch  # imported late: run contexts import this module, and most attacks need no torch

    buffer = io.BytesIO()
    torch.save(state, buffer)  # in memory: writing to a full disk, torch raises no OSError
    payload = buffer.getbuffer()
    store.write(name, b"".join((hashlib.sha256(payload).digest(), payload)))


def load(store: CheckpointStore, name: str) -> dict[str, Any] | None:
    """The state under `name`, on the CPU; None if there is none or its checksum is wrong."""
    import torch

    raw = store.read(name)
    if raw is None:
        return None
    digest, payload = raw[:32], memoryview(raw)[32:]
    if hashlib.sha256(payload).digest() != digest:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return state
