"""The table of an evaluation as a heatmap: the more a cell leaks, the hotter it is."""

from __future__ import annotations

from unveil.app.report.evaluation import Sample
from unveil.app.report.proof_image import ProofImage, proof_image
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


def proof(row: SchemeRow) -> ProofImage[Sample] | None:
    """The image beside the verdict of a scheme, as in the report."""
    return proof_image(row, lambda cell: [] if cell.cell is None else cell.cell.samples)
