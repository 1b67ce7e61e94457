"""An evaluation on the terminal: verdicts first, then the matrix of schemes and attacks, ours beside the paper's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from unveil.app.cli.console import verdict_text
from unveil.app.report.labels import format_percent
from unveil.app.report.narrative import badge, describe_missing_part, describe_paper_verdicts, summarize
from unveil.app.report.table import AttackColumn, EmptyReason, EvaluationTable, SchemeRow, TableCell, status_text
from unveil.models.core.verdict_rules.coverage import describe_notes

_AVAILABILITY = {True: "yes", False: "no", None: "?"}
_ID = re.compile(r"\b[a-z]+_[0-9a-f]{26}([0-9a-f]{6})\b")
_MAX_LABEL_WIDTH = 32
_GAP = 2  # after each column: its padding and the divider


def render(table: EvaluationTable) -> RenderableType:
    evaluation = table.evaluation
    parts: list[RenderableType] = [Text(f"{evaluation.name or evaluation.id}: {evaluation.status}", style="bold")]
    if evaluation.tags:
        parts.append(Text(f"tags: {', '.join(evaluation.tags)}", style="dim"))
    if evaluation.notes:
        parts.append(Padding(Text(evaluation.notes), (0, 0, 0, 2), expand=False))
    if table.is_finished:
        parts.append(Text(summarize(evaluation.verdicts), style="bold"))
    parts += ["", Text("Verdicts: the worst case over all attacks", style="italic")]
    for row in table.rows:
        parts += _verdict_lines(row)
    parts += ["", _Matrix(table), Text(_format_legend(table), style="dim")]
    parts += [_reason_line(reason) for reason in table.empty_reasons]
    if evaluation.utility:
        parts += ["", _utility_table(table)]
    return Group(*parts)


def _short(label: str) -> str:
    """The label with ids shortened to their last digits, which commands accept as references."""
    return _ID.sub(r"…\1", label)


def _verdict_lines(row: SchemeRow) -> Iterator[RenderableType]:
    verdict = row.verdict
    if verdict is None:
        return
    yield Text.assemble((_short(row.label), "bold"), ": ", verdict_text(verdict.verdict, badge(verdict)))
    details = [Text(verdict.because)]
    missing = describe_missing_part(verdict)
    if missing is not None:
        details.append(Text(missing))
    if verdict.paper:
        details.append(Text(f"the paper: {describe_paper_verdicts(verdict.paper)}", style="dim"))
    if verdict.verdict in ("broken", "leaks"):  # the reason of other verdicts names these attacks
        for term, notes in (("not tried", verdict.not_tried), ("weakened", verdict.weakened)):
            if notes:
                details.append(Text(f"{term}: {describe_notes(notes)}", style="dim"))
    yield Padding(Group(*details), (0, 0, 0, 2), expand=False)


@dataclass(frozen=True)
class _Matrix:
    """Schemes in rows, attacks in columns, in blocks of as many attacks as fit the terminal."""

    table: EvaluationTable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = self.table.rows
        names = [*(_short(row.label) for row in rows), *(f"  {line}" for line in _LINES)]
        label_width = min(_MAX_LABEL_WIDTH, max(map(cell_len, names)))
        for columns in self._blocks(options.max_width - label_width - _GAP):
            yield self._block(columns, label_width)
            yield ""

    def _blocks(self, width: int) -> Iterator[list[AttackColumn]]:
        block: list[AttackColumn] = []
        used = 0
        for column in self.table.columns:
            needed = self._column_width(column) + _GAP
            if block and used + needed > width:
                yield block
                block, used = [], 0
            block.append(column)
            used += needed
        if block:
            yield block

    def _column_width(self, column: AttackColumn) -> int:
        """The width of the longest word or figure."""
        figures = [text.plain for row in self.table.rows for text in _figures(row.cell_for(column)).values()]
        return max(map(cell_len, [*_heading(column).split(), *figures]))

    def _block(self, columns: Sequence[AttackColumn], label_width: int) -> Table:
        block = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        block.add_column("scheme", width=label_width, overflow="ellipsis")
        for column in columns:
            block.add_column(_heading(column), width=self._column_width(column), overflow="ellipsis")
        for row in self.table.rows:
            figures = [_figures(row.cell_for(column)) for column in columns]
            for line in _LINES:
                if line == "verdict":
                    block.add_row(_short(row.label), *(each[line] for each in figures))
                elif any(line in each for each in figures):
                    block.add_row(Text(f"  {line}", style="dim"), *(each.get(line, "") for each in figures))
        return block


_LINES = ("verdict", "SSIM", "keys", "linked", "identified", "the paper")


def _heading(column: AttackColumn) -> str:
    return _short(column.label) + ("" if column.requested else "*")


def _figures(cell: TableCell) -> dict[str, Text]:
    """What a cell of the matrix shows, by line."""
    result = cell.result
    if result is None:
        return {"verdict": Text(cell.empty_text, style="dim")}
    figures = {"verdict": verdict_text(result.verdict)}
    if result.ssim is not None:
        figures["SSIM"] = Text(f"{result.ssim.mean:.3f}")
    if result.key_space_bits is not None:
        figures["keys"] = Text(f"2^{result.key_space_bits:.0f}")
    if result.linkage is not None:
        figures["linked"] = Text(format_percent(result.linkage.top1, 0))
    if result.identification is not None:
        figures["identified"] = Text(format_percent(result.identification.top1, 0))
    if result.paper_ssim is not None:
        figures["the paper"] = Text(f"{result.paper_ssim:.3f}")
    return figures


def _format_legend(table: EvaluationTable) -> str:
    results = [cell.result for cell in table.evaluation.cells if cell.result is not None]
    sizes = sorted({result.identification.gallery for result in results if result.identification is not None})
    among = f" among {', '.join(map(str, sizes))}" if sizes else ""
    added = " *: not requested, the profile requires it." if any(not c.requested for c in table.columns) else ""
    return f"SSIM: 1 is the plain image. identified: share of images identified{among}. the paper: its SSIM.{added}"


def _reason_line(reason: EmptyReason) -> Text:
    attacks = ", ".join(column.label for column in reason.attacks)
    schemes = ", ".join(_short(row.label) for row in reason.schemes)
    style = "bold red" if reason.text == "failed" else "bold"
    return Text.assemble(
        (f"{reason.text}: ", style), attacks + (f" on {schemes}" if schemes else ""), f": {reason.reason}"
    )


def _utility_table(table: EvaluationTable) -> Table:
    title = "Utility: accuracy of a classifier on plain and on protected images"
    utility = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    utility.add_column("scheme", overflow="ellipsis", max_width=_MAX_LABEL_WIDTH)
    for heading in ("plain", "protected", "drop"):
        utility.add_column(heading, justify="right", no_wrap=True)
    for heading in ("classification", "training", "cost"):
        utility.add_column(heading, no_wrap=True)
    for row in table.rows:
        if row.utility is None:
            continue
        result = row.utility.result
        if result is None:
            utility.add_row(_short(row.label), Text(status_text(row.utility), style="dim"))
            continue
        utility.add_row(
            _short(row.label),
            format_percent(result.plain.top1, 1),
            format_percent(result.protected.top1, 1),
            f"{result.drop.points:.1f}",
            result.classification or "?",
            _AVAILABILITY[result.training.available],
            result.cost.level or "",
        )
    return utility
