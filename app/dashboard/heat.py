"""An evaluation as a table: schemes down, attacks across, the more visible the hotter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.core.states import ACTIVE
from app.evaluations.report import label
from app.evaluations.schemas import CellOut, EvaluationOut, SampleOut

STEPS = 10


@dataclass(frozen=True)
class Column:
    attack: str
    threat_model: str


@dataclass(frozen=True)
class Row:
    scheme: str
    verdict: str
    because: str
    worst_attack: str | None
    paper: Mapping[str, str] | None
    cells: list[CellOut | None]

    @property
    def pending(self) -> bool:
        """Whether more is to come before there is a verdict."""
        return self.verdict == "inconclusive" and any(cell and cell.status in ACTIVE for cell in self.cells)

    @property
    def shown(self) -> tuple[CellOut, SampleOut] | None:
        """The cell that decided the verdict, and its best picture."""
        for cell in self.cells:
            if cell and cell.samples and cell.attack["name"] == self.worst_attack:
                return cell, cell.samples[-1]
        return None


@dataclass(frozen=True)
class Table:
    columns: list[Column]
    rows: list[Row]


def table(evaluation: EvaluationOut) -> Table:
    columns = {label(cell.attack): cell.threat_model for cell in evaluation.cells}
    by_pair = {(label(cell.scheme), label(cell.attack)): cell for cell in evaluation.cells}
    rows = [
        Row(
            label(verdict.scheme),
            verdict.verdict,
            verdict.because,
            verdict.worst_attack,
            verdict.paper,
            [by_pair.get((label(verdict.scheme), attack)) for attack in columns],
        )
        for verdict in evaluation.verdicts
    ]
    return Table([Column(*column) for column in columns.items()], rows)


def style(cell: CellOut | None) -> str:
    """The CSS class of a cell: heat-0 (nothing to see) to heat-10 (the plain image), or its status."""
    if cell is None:
        return "plain"
    if cell.result is None:
        return f"plain status-{cell.status.value}"
    if cell.result.ssim is None:
        return "figure"
    return f"heat-{round(STEPS * min(1.0, max(0.0, cell.result.ssim['mean'])))}"


def name(cell: CellOut) -> str:
    return f"{label(cell.attack)} on {label(cell.scheme)}"
