"""The table of an evaluation as a heatmap: the more a cell leaks, the hotter it is."""

from __future__ import annotations

from unveil.app.report.evaluation import Cell, Sample
from unveil.app.report.table import SchemeRow, TableCell

COLOR_STEPS = 10


def css_class(cell: TableCell) -> str:
    """heat-0 (nothing visible) to heat-10 (the original), or the status; hatched where a control failed."""
    if cell.cell is None:
        return "plain"
    if cell.result is None:
        return f"plain status-{cell.cell.status}"
    if cell.leak is None:
        return "figure"
    return f"heat-{round(COLOR_STEPS * cell.leak)}" + (" hatched" if cell.result.failed_controls else "")


def highlight(row: SchemeRow) -> tuple[Cell, Sample] | None:
    """The cell that the verdict rests on, and its clearest reconstruction."""
    worst = row.verdict_cell
    if worst is None or worst.cell is None or not worst.cell.samples:
        return None
    return worst.cell, sort_by_strength(worst.cell)[0]


def sort_by_strength(cell: Cell) -> list[Sample]:
    """The samples of a cell: leaking images first, the most certain of them before others, then the highest SSIM."""
    ranks = {index: rank for rank, index in enumerate(cell.leaking_images)}
    return sorted(cell.samples, key=lambda sample: (ranks.get(sample.index, len(ranks)), -(sample.ssim or 0.0)))
