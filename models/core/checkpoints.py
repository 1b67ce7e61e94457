"""Checkpoints: the state of a training, kept where a crash of the process does not reach.

What is stored is the state after its SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class CheckpointStore(Protocol):
    """Where checkpoints lie. A reader finds the whole of the last one written, or of the one before, never a part."""

    def read(self, name: str) -> bytes | None:
        """None where there is none, or what cannot be opened."""

    def write(self, name: str, data: bytes) -> None:
        """Raises OSError, and keeps the one before, where there is no room."""

    def child(self, name: str) -> CheckpointStore:
        """For a part of the work: names of its own."""


@dataclass(frozen=True)
class DirectoryStore:
    """A store on this disk, as it is: for who runs `models` alone."""

    path: Path

    def read(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = self.path / f"{name}.part"
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        temporary.replace(self.path / name)

    def child(self, name: str) -> DirectoryStore:
        return DirectoryStore(self.path / name)


def save(store: CheckpointStore, name: str, state: dict[str, Any]) -> None:
    """Write `state`: tensors and plain values. Raises OSError."""
    import torch  # not before: `Context` knows of stores, and most attacks need no torch

    buffer = io.BytesIO()
    torch.save(state, buffer)  # in memory, for torch makes a nameless error of a full disk
    payload = buffer.getbuffer()
    store.write(name, b"".join((hashlib.sha256(payload).digest(), payload)))


def load(store: CheckpointStore, name: str) -> dict[str, Any] | None:
    """The state under `name`, on the CPU. None where there is none, or only what a damaged disk left of one."""
    import torch

    raw = store.read(name)
    if raw is None:
        return None
    digest, payload = raw[:32], memoryview(raw)[32:]
    if hashlib.sha256(payload).digest() != digest:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return state
