"""Estimate of the memory of a computation, so that a process refuses what does not fit before it starts.

    batch_size = fit_batch_size(run_step, 128)   # 128, or the largest of 64, 32, ... that fits

The estimate counts the bytes of all live tensors after every operation, on two and on four images. Each count is a
constant (weights, state of the optimizer) plus a multiple of the number of images (activations).
"""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unveil.models.core.errors import OUT_OF_MEMORY_TEXTS, OutOfMemory

_COUNTED_BATCH_SIZES = (2, 4)
# Copies of weights and activations in oneDNN, and gaps of the heap: measured peaks are 0.9 to 1.2 times the estimate,
# and up to 80 MB more for compiled kernels [M].
_OVERHEAD_FACTOR, _OVERHEAD_BYTES = 1.2, 10**8


def fit_batch_size(run: Callable[[int], object], batch_size: int, min_batch_size: int = 2) -> int:
    """The largest of batch_size, batch_size / 2, ... for which `run` fits into the memory that this process may use.

    run: computes on the given number of images; called with at most four, and not at all in a process without a limit.
    Raises OutOfMemory if fewer than `min_batch_size` images fit.
    """
    limit = process_limit()
    if limit is None:
        return batch_size
    try:
        estimate = _estimate_bytes(run, batch_size)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        estimate = None
    gc.collect()  # networks and optimizers refer to each other
    if estimate is None:  # outside the handler, whose traceback keeps tensors alive
        raise limit_exceeded(min(batch_size, max(_COUNTED_BATCH_SIZES)), limit)
    in_use = _bytes_in_use()
    while (needed := in_use + estimate(batch_size)) > limit:
        if batch_size // 2 < min_batch_size:
            raise limit_exceeded(batch_size, limit, f"an estimated {needed / 1e9:.2f} GB, more")
        batch_size //= 2
    return batch_size


def process_limit() -> int | None:
    """Bytes of memory that this process may use; None: no limit."""
    if sys.platform != "linux":  # where nothing limits a worker, and `/proc` is missing
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return None if limit == resource.RLIM_INFINITY else limit


def limit_exceeded(batch_size: int, limit: int, needed: str = "more") -> OutOfMemory:
    """The error of a computation that does not fit into the limit of this process."""
    return OutOfMemory(
        f"{batch_size} images per step need {needed} than the {limit / 1e9:.2f} GB that this process may use; lower "
        "`batch` or the widths, or raise UNVEIL_JOB_MEMORY_BYTES"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """On a CPU torch raises a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY_TEXTS)
    )


def _estimate_bytes(run: Callable[[int], object], batch_size: int) -> Callable[[int], float]:
    """The bytes that `run` needs at its peak, as a function of the number of images."""
    few, more = (min(images, batch_size) for images in _COUNTED_BATCH_SIZES)
    small, large = _trace_live_bytes(run, few), _trace_live_bytes(run, more)

    def estimate(images: int) -> float:
        if few == more or len(small) != len(large):  # or the operations depend on the number of images
            peak = max(large) * images / more
        else:
            factor = (images - few) / (more - few)
            peak = max(a + factor * (b - a) for a, b in zip(small, large, strict=True))
        return _OVERHEAD_FACTOR * peak + _OVERHEAD_BYTES

    return estimate


def _trace_live_bytes(run: Callable[[int], object], images: int) -> list[int]:
    """The bytes of the tensors that `run` created and that are alive, after each of its operations."""
    with _LiveBytes() as live:
        run(images)
    return live.trace


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that operations create."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = [0]
        self._addresses = set[int]()
        self._bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                address = storage._cdata
                if address not in self._addresses:
                    self._addresses.add(address)
                    self._bytes += storage.nbytes()
                    weakref.finalize(storage, self._forget, address, storage.nbytes())
        self.trace.append(self._bytes)
        return output

    def _forget(self, address: int, size: int) -> None:
        self._bytes -= size
        self._addresses.remove(address)


def _bytes_in_use() -> int:
    """Bytes that count towards the limit, without those that malloc keeps for later tensors."""
    match = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) * 1024 - _free_heap_bytes()


class _Mallinfo2(ctypes.Structure):
    """The result of glibc's mallinfo2()."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def _free_heap_bytes() -> int:
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):  # not glibc 2.33 or later
        return 0
    mallinfo2.restype = _Mallinfo2
    return int(mallinfo2().fordblks)
