"""The highest memory of a process since it was last asked (Linux)."""

from __future__ import annotations

from pathlib import Path


def reset_peak(pid: int | str = "self") -> int:
    """Bytes that it holds now; its peak starts from there."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _read_status_field(pid, "VmRSS")


def peak_bytes(pid: int | str = "self") -> int:
    return _read_status_field(pid, "VmHWM")


def _read_status_field(pid: int | str, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/status has no {name}")
