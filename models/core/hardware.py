"""The processor and the GPU that a result was computed on, which its seconds depend on."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path


@cache
def describe_hardware(device: str) -> str:
    """For example `AMD EPYC 7763, 2 cores` or `NVIDIA H200; AMD EPYC 9654, 16 cores`. device: as torch names it."""
    cores = os.cpu_count() or 1
    processor = f"{_processor_model()}, {cores} core{'' if cores == 1 else 's'}"
    if not device.startswith("cuda"):
        return processor
    import torch

    return f"{torch.cuda.get_device_name(device)}; {processor}"


def _processor_model() -> str:
    """The model name that Linux reports; elsewhere the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()
