"""An evaluation as a table: schemes down, attacks across, the more visible the hotter."""

from __future__ import annotations

from dataclasses import dataclass

from app.evaluations.report import label
from app.evaluations.schemas import CellOut, EvaluationOut

STEPS = 10


@dataclass(frozen=True)
class Row:
    scheme: str
    verdict: str
    because: str
    cells: list[CellOut | None]


@dataclass(frozen=True)
class Table:
    attacks: list[str]
    rows: list[Row]


def table(evaluation: EvaluationOut) -> Table:
    attacks = list(dict.fromkeys(label(cell.attack) for cell in evaluation.cells))
    by_pair = {(label(cell.scheme), label(cell.attack)): cell for cell in evaluation.cells}
    verdicts = {label(verdict.scheme): verdict for verdict in evaluation.verdicts}
    schemes = list(dict.fromkeys(label(cell.scheme) for cell in evaluation.cells))
    rows = [
        Row(
            scheme,
            verdicts[scheme].verdict if scheme in verdicts else "",
            verdicts[scheme].because if scheme in verdicts else "",
            [by_pair.get((scheme, attack)) for attack in attacks],
        )
        for scheme in schemes
    ]
    return Table(attacks, rows)


def style(cell: CellOut | None) -> str:
    """The CSS class of a cell: heat-0 (nothing to see) to heat-10 (the plain image), or its status."""
    if cell is None:
        return "missing"
    if cell.result is None:
        return f"status-{cell.status.value}"
    if cell.result.ssim is None:
        return "figure"
    return f"heat-{round(STEPS * min(1.0, max(0.0, cell.result.ssim['mean'])))}"


def name(cell: CellOut) -> str:
    return f"{label(cell.attack)} on {label(cell.scheme)}"
