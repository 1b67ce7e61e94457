"""Checkpoints on disk: a reader finds the whole of the last one, or the whole of the one before, never a part.

What is saved is the state after its SHA-256. Weights in training may be secrets: `seal` and `unseal` stand between that
and what the disk sees.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def save(
    path: Path,
    state: dict[str, Any],
    seal: Callable[[bytes], bytes] = bytes,
    passing: Callable[[str], None] = lambda _: None,
) -> None:
    """Write `state` (tensors and plain values) aside, bring it to the disk, then give it its name.

    Raises OSError, and leaves nothing, where the disk takes no more. Put together in memory, for torch makes a nameless
    error of it; and aside under this process's name, for a worker that was given up for dead may wake and save too.
    passing: is told each point between two writes.
    """
    whole = io.BytesIO()
    torch.save(state, whole)
    saved = whole.getbuffer()
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            file.write(seal(b"".join((hashlib.sha256(saved).digest(), saved))))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    passing("checkpoint-before-rename")
    aside.replace(path)
    passing("checkpoint-renamed")
    folder = os.open(path.parent, os.O_RDONLY)  # the new name must survive a power cut too
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(path: Path, unseal: Callable[[bytes], bytes] = bytes) -> dict[str, Any] | None:
    """The state in `path`, on the CPU. None where there is none, or only what a damaged disk left of one.

    unseal: raises ValueError where it cannot.
    """
    try:
        whole = unseal(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    digest, saved = whole[:32], memoryview(whole)[32:]
    if hashlib.sha256(saved).digest() != digest:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(saved), map_location="cpu", weights_only=True)
    return state
