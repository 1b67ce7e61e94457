"""What a benchmark finds: rows of a table, and curves where cost grows with work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Goal:
    """What was set out for, of the row's own value or of its ratio to the peer."""

    direction: Literal["at most", "at least"]
    value: float
    of: Literal["ours", "ratio"] = "ours"

    def is_reached(self, row: Row) -> bool:
        value = row.ours if self.of == "ours" else row.ratio
        return value is not None and (value <= self.value if self.direction == "at most" else value >= self.value)

    def __str__(self) -> str:
        return f"{self.direction} {self.value:g}" + ("x" if self.of == "ratio" else "")


@dataclass(frozen=True)
class Row:
    """`ratio`: how many times better than the peer. Peer and limit are in the row's own unit."""

    name: str
    unit: str
    ours: float
    peer: tuple[str, float] | None = None
    ratio: float | None = None
    limit: tuple[str, float] | None = None
    goal: Goal | None = None

    def format_cells(self) -> list[str]:
        return [
            self.name,
            self.unit,
            f"{self.ours:.3g}" if self.ours < 1000 else f"{self.ours:,.0f}",
            "" if self.peer is None else f"{self.peer[0]}: {self.peer[1]:.4g}",
            "" if self.ratio is None else f"{self.ratio:.2g}x" if self.ratio < 10 else f"{self.ratio:.0f}x",
            "" if self.limit is None else f"{self.limit[0]}: {self.limit[1]:.3g}",
            "" if self.goal is None else f"{self.goal}: {'reached' if self.goal.is_reached(self) else 'missed'}",
        ]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"reached": self.goal and self.goal.is_reached(self)}


TABLE_HEADER = ("job", "unit", "ours", "peer", "ratio", "limit", "goal")


@dataclass(frozen=True)
class Curve:
    """Cost as work grows: `points` are (x, y)."""

    name: str
    x: str
    y: str
    points: Sequence[tuple[float, float]]

    @property
    def slope(self) -> float:
        """The growth of y with each x, a straight line through the points by least squares."""
        x, y = np.array(self.points, float).T
        return float(np.polyfit(x, y, 1)[0])

    def sentence(self) -> str:
        points = ", ".join(f"{x:g}: {y:.3g}" for x, y in self.points)
        return f"{self.name}, {self.y} by {self.x}: {points}; slope {self.slope:.2g} {self.y} each"

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"slope": self.slope}
