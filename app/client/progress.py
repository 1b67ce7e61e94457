"""The progress of a job, as a progress bar shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ProgressSnapshot:
    fraction: float
    phase: str
    status: str
    tally: str = ""  # such as "3/12 cells"
    eta_s: float | None = None


class HasProgress(Protocol):
    def snapshot(self) -> ProgressSnapshot: ...
