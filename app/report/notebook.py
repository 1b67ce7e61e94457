"""The short form of a report for a notebook: verdict, table of attacks, image strips; and of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from unveil.app.report import narrative
from unveil.app.report.formats import common_notes, load_template
from unveil.app.report.image_grids import data_uri
from unveil.app.report.labels import format_percent
from unveil.app.report.model import Report, SampleTriple
from unveil.app.report.table import EvaluationTable
from unveil.models.core.cell_result import CellResult

_MAX_TRIPLES = 4  # of the attack that the verdict rests on


def render(report: Report) -> str:
    """HTML without a document around it; it loads nothing and has no script."""
    row = report.table.rows[0]
    cell = row.verdict_cell or next((cell for cell in row.cells if report.samples_of(cell)), None)
    triples: list[SampleTriple] = list(report.samples_of(cell))[-_MAX_TRIPLES:]
    return load_template("notebook.html.j2").render(
        report=report,
        row=row,
        attack=cell.column.title if cell else None,
        triples=triples,
        notes=_notes([cell.result for cell in row.cells if cell.result]),
        sentence=narrative.describe_verdict(row.verdict) if row.verdict else "",
        percent=format_percent,
        uri=data_uri,
    )


def _notes(results: Sequence[CellResult]) -> list[str]:
    """What holds for all attacks: conversions, one key, randomised output. A single result has no others."""
    noted = [result for result in results if result.ssim] or results
    return noted[0].notes if len(noted) == 1 else common_notes(noted)


def render_table(table: EvaluationTable) -> str:
    """The same of a whole evaluation, without images."""
    verdicts = table.evaluation.verdicts
    summary = narrative.summarize(verdicts) if table.is_finished and verdicts else ""
    return load_template("notebook-evaluation.html.j2").render(table=table, summary=summary)
