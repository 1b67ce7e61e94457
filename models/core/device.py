"""The device that networks run on."""

from __future__ import annotations

import ctypes


def has_gpu_driver() -> bool:
    """Whether CUDA's driver is installed. Imports no torch, which takes seconds."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def resolve_device(requested: str) -> str:
    """`auto` means the GPU if there is one, and torch."""
    if requested != "auto":
        return requested
    if not has_gpu_driver():
        return "cpu"
    try:
        import torch
    except ModuleNotFoundError:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"
