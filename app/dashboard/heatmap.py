"""The table of an evaluation as a heatmap: the more visible the images, the hotter the cell."""

from __future__ import annotations

from collections.abc import Sequence

from unveil.app.report import narrative
from unveil.app.report.evaluation import Cell, Sample
from unveil.app.report.table import SchemeRow, TableCell

COLOR_STEPS = 10


def css_class(cell: TableCell) -> str:
    """heat-0 (nothing visible) to heat-10 (the original), or the status."""
    if cell.cell is None:
        return "plain"
    if cell.result is None:
        return f"plain status-{cell.cell.status}"
    if cell.result.ssim is None:
        return "figure"
    return f"heat-{round(COLOR_STEPS * min(1.0, max(0.0, cell.result.ssim.mean)))}"


def verdict_word(row: SchemeRow) -> str:
    """The verdict; `pending` while it is open because cells run."""
    assert row.verdict is not None
    return "pending" if row.is_pending else row.verdict.verdict


def verdict_sentence(row: SchemeRow) -> str:
    return "Its attacks have not finished." if row.is_pending else narrative.describe_verdict(row)


def highlight(row: SchemeRow) -> tuple[Cell, Sample] | None:
    """The cell that the verdict rests on, and its best reconstruction."""
    worst = row.verdict_cell
    if worst is None or worst.cell is None or not worst.cell.samples:
        return None
    return worst.cell, sort_by_strength(worst.cell.samples)[0]


def sort_by_strength(samples: Sequence[Sample]) -> list[Sample]:
    """Highest SSIM first; equal ones keep their order."""
    return sorted(samples, key=lambda sample: sample.ssim or 0.0, reverse=True)
