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


class Store(Protocol):
    """Where checkpoints lie. A reader finds the whole of the last one written, or of the one before, never a part."""

    def read(self, name: str) -> bytes | None:
        """None where there is none, or what cannot be opened."""

    def write(self, name: str, data: bytes) -> None:
        """Raises OSError, and keeps the one before, where there is no room."""

    def part(self, name: str) -> Store:
        """For a part of the work: names of its own."""


@dataclass(frozen=True)
class Folder:
    """A store on this disk, as it is: for who runs `models` alone."""

    path: Path

    def read(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        aside = self.path / f"{name}.part"
        try:
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        aside.replace(self.path / name)

    def part(self, name: str) -> Folder:
        return Folder(self.path / name)


def save(store: Store, name: str, state: dict[str, Any]) -> None:
    """Write `state`: tensors and plain values. Raises OSError."""
    import torch  # not before: `Context` knows of stores, and most attacks need no torch

    whole = io.BytesIO()
    torch.save(state, whole)  # in memory, for torch makes a nameless error of a full disk
    saved = whole.getbuffer()
    store.write(name, b"".join((hashlib.sha256(saved).digest(), saved)))


def load(store: Store, name: str) -> dict[str, Any] | None:
    """The state under `name`, on the CPU. None where there is none, or only what a damaged disk left of one."""
    import torch

    whole = store.read(name)
    if whole is None:
        return None
    digest, saved = whole[:32], memoryview(whole)[32:]
    if hashlib.sha256(saved).digest() != digest:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(saved), map_location="cpu", weights_only=True)
    return state
