"""Utilization of this machine's GPUs, from nvidia-smi: no need to import torch."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

_QUERY_FIELDS = "name,utilization.gpu,memory.used,memory.total"
_QUERY_TIMEOUT_S = 5.0


def query_gpus() -> list[dict[str, Any]] | None:
    """[{"name", "use", "memory_used", "memory"}]; None without a driver or its reply."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        result = subprocess.run(
            [program, f"--query-gpu={_QUERY_FIELDS}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=_QUERY_TIMEOUT_S, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_gpu_table(result.stdout)


def parse_gpu_table(table: str) -> list[dict[str, Any]]:
    gpus = []
    for line in table.strip().splitlines():
        name, use, used, total = (cell.strip() for cell in line.rsplit(",", 3))
        if not (used.isdigit() and total.isdigit()):  # [N/A] if the driver does not know
            continue
        share = int(use) / 100 if use.isdigit() else None
        gpus.append({"name": name, "use": share, "memory_used": int(used) * 2**20, "memory": int(total) * 2**20})
    return gpus
