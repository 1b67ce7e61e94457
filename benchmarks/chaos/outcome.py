"""What a fault did: one row of the table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ProgressCallback = Callable[[str], None]  # a line of progress for whoever watches


@dataclass(frozen=True)
class FaultResult:
    """tries: how often the fault was made; survived: how often all was well; lost: what was lost, in pieces."""

    fault: str
    tries: int
    survived: int
    lost: int
    recovery_s: Sequence[float] = ()  # from each fault until all went on
    note: str = ""
    load: float | None = None  # of the machine, at the end

    @property
    def passed(self) -> bool:
        return self.survived == self.tries > 0 and self.lost == 0

    @property
    def recovery(self) -> str:
        """Median and maximum."""
        if not self.recovery_s:
            return ""
        return f"{statistics.median(self.recovery_s):.1f} (max {max(self.recovery_s):.1f})"
