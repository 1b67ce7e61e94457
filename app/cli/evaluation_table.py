"""The tables of an evaluation on the terminal: our figures beside the paper's, and a verdict for each scheme."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from unveil.app.report.labels import format_percent
from unveil.app.report.narrative import badge, describe_paper_verdicts, summarize
from unveil.app.report.table import EmptyReason, EvaluationTable, TableCell, status_text
from unveil.models.core.verdict_rules.coverage import describe_notes

VERDICT_STYLES = {"broken": "bold red", "leaks": "yellow", "no leak found": "green", "inconclusive": "bright_black"}
_AVAILABILITY = {True: "yes", False: "no", None: "?"}


def render(table: EvaluationTable) -> RenderableType:
    legend = Text(_format_legend(table), style="dim")
    utility = [_utility_table(table)] if table.evaluation.utility else []
    reasons = [_reason_line(reason) for reason in table.empty_reasons]
    summary = [Text(summarize(table.evaluation.verdicts), style="bold")] if table.is_finished else []
    return Group(
        _cells_table(table), legend, *reasons, "", *utility, _verdicts_table(table), *_coverage(table), *summary
    )


def verdict_text(verdict: str, text: str = "") -> Text:
    return Text(text or verdict, style=VERDICT_STYLES.get(verdict, ""))


def _cells_table(table: EvaluationTable) -> Table:
    evaluation = table.evaluation
    cells = _make_table(f"{evaluation.name or evaluation.id}: {evaluation.status}")  # narrow: fits 80 columns
    for heading in ("scheme", "attack"):
        cells.add_column(heading, overflow="fold")
    for heading in ("SSIM", "paper", "ident."):
        cells.add_column(heading, justify="right", no_wrap=True)
    cells.add_column("verdict", no_wrap=True)
    for row in table.rows:
        for number, cell in enumerate(row.cells):
            attack = cell.column.label + ("" if cell.column.requested else " *")
            cells.add_row("" if number else row.label, attack, *_score_columns(cell))
        cells.add_section()
    return cells


def _score_columns(cell: TableCell) -> tuple[RenderableType, ...]:
    result = cell.result
    if result is None:
        return "", "", "", Text(cell.empty_text, style="dim")
    paper = "" if result.paper_ssim is None else f"{result.paper_ssim:.3f}"
    identified = "" if result.identification is None else format_percent(result.identification.top1, 0)
    return cell.figure or "", paper, identified, verdict_text(result.verdict)


def _format_legend(table: EvaluationTable) -> str:
    results = [cell.result for cell in table.evaluation.cells if cell.result is not None]
    sizes = sorted({result.identification.gallery for result in results if result.identification is not None})
    among = f" among {', '.join(map(str, sizes))}" if sizes else ""
    added = " *: not requested, the profile requires it." if any(not c.requested for c in table.columns) else ""
    return f"SSIM: 1 is the plain image; 2^n is the number of keys. ident.: images identified{among}.{added}"


def _reason_line(reason: EmptyReason) -> Text:
    attacks = ", ".join(column.label for column in reason.attacks)
    schemes = ", ".join(row.label for row in reason.schemes)
    style = "bold red" if reason.text == "failed" else "bold"
    return Text.assemble(
        (f"{reason.text}: ", style), attacks + (f" on {schemes}" if schemes else ""), f": {reason.reason}"
    )


def _utility_table(table: EvaluationTable) -> Table:
    utility = _make_table("Utility: accuracy of a classifier on plain and on protected images")
    utility.add_column("scheme", overflow="fold")
    for heading in ("plain", "protected", "drop"):
        utility.add_column(heading, justify="right", no_wrap=True)
    for heading in ("classification", "training", "cost"):
        utility.add_column(heading, no_wrap=True)
    for row in table.rows:
        if row.utility is None:
            continue
        result = row.utility.result
        if result is None:
            utility.add_row(row.label, Text(status_text(row.utility), style="dim"))
            continue
        utility.add_row(
            row.label,
            f"{result.plain.top1:.1%}",
            f"{result.protected.top1:.1%}",
            f"{result.drop.points:.1f}",
            result.classification or "?",
            _AVAILABILITY[result.training.available],
            result.cost.level or "",
        )
    return utility


def _verdicts_table(table: EvaluationTable) -> Table:
    verdicts = _make_table("Verdicts: the worst case over all attacks")
    verdicts.add_column("scheme", overflow="fold")
    verdicts.add_column("verdict", no_wrap=True)
    verdicts.add_column("because", ratio=1)
    verdicts.add_column("the paper", ratio=1)
    for row in table.rows:
        if row.verdict is not None:
            paper = describe_paper_verdicts(row.verdict.paper or {})
            word = verdict_text(row.verdict.verdict, badge(row.verdict))
            verdicts.add_row(row.label, word, row.verdict.because, paper)
    return verdicts


def _coverage(table: EvaluationTable) -> Iterator[Text]:
    """Attacks that did not run, or ran with weaker settings, under verdicts whose reason does not name them."""
    for row in table.rows:
        if row.verdict is None or row.verdict.verdict not in ("broken", "leaks"):
            continue
        for term, notes in (("not tried", row.verdict.not_tried), ("weakened", row.verdict.weakened)):
            if notes:
                yield Text.assemble((f"{term}: ", "bold"), f"{describe_notes(notes)} on {row.label}")


def _make_table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
