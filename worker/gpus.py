"""How busy this machine's GPUs are, as the driver's own program tells it; torch is not loaded for that."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

_FIELDS = "name,utilization.gpu,memory.used,memory.total"
_PATIENCE_S = 5.0


def look() -> list[dict[str, Any]] | None:
    """[{"name", "use", "memory_used", "memory"}]; None where there is no driver or it does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        told = subprocess.run(
            [program, f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=_PATIENCE_S, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return read(told.stdout)


def read(table: str) -> list[dict[str, Any]]:
    found = []
    for line in table.strip().splitlines():
        name, use, used, total = (cell.strip() for cell in line.rsplit(",", 3))
        if not (used.isdigit() and total.isdigit()):  # a driver that cannot tell writes [N/A]
            continue
        share = int(use) / 100 if use.isdigit() else None
        found.append({"name": name, "use": share, "memory_used": int(used) * 2**20, "memory": int(total) * 2**20})
    return found
