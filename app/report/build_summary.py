"""Verdicts for build servers: JUnit XML, and a Markdown summary of a few lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

from unveil.app.db.job_states import Status
from unveil.app.report.formats import escape_markdown
from unveil.app.report.labels import format_percent
from unveil.app.report.narrative import badge, describe_verdict, summarize
from unveil.app.report.table import EvaluationTable, SchemeRow, TableCell
from unveil.models.core.verdict_rules.types import Verdict

IsUnacceptable = Callable[[Verdict], bool]
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(table: EvaluationTable, is_unacceptable: IsUnacceptable) -> bytes:
    """A test suite for each scheme: a test case for its verdict and one for each attack.

    The verdict fails if it is unacceptable; an attack fails if its own finding (`broken`, `leaks`) is. A failed cell is
    an error. A cell that does not apply, or was cancelled, is skipped.
    """
    root = ElementTree.Element("testsuites", name=_text(table.evaluation.name))
    for row in table.rows:
        suite = ElementTree.SubElement(root, "testsuite", name=_text(row.title))
        _append_verdict(suite, row, is_unacceptable)
        for cell in row.cells:
            _append_cell(suite, row, cell, is_unacceptable)
        _count_outcomes(suite, len(suite))
    _count_outcomes(root, sum(map(len, root)))
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def markdown_summary(table: EvaluationTable, is_unacceptable: IsUnacceptable) -> str:
    """One line for the evaluation and one for each scheme, such as for a job summary or a comment."""
    lines = [
        f"### {escape_markdown(table.evaluation.name)}",
        "",
        f"**{summarize(table.evaluation.verdicts)}**",
        "",
        "| scheme | verdict | gate | because |",
        "|---|---|---|---|",
    ]
    for row in table.rows:
        if row.verdict is not None:
            gate = "failed" if is_unacceptable(row.verdict.verdict) else "passed"
            because = escape_markdown(describe_verdict(row.verdict))
            lines.append(f"| {escape_markdown(row.title)} | {badge(row.verdict)} | {gate} | {because} |")
    return "\n".join(lines) + "\n"


def _append_verdict(suite: ElementTree.Element, row: SchemeRow, is_unacceptable: IsUnacceptable) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=_text(row.label), name="verdict")
    verdict = row.verdict
    if verdict is not None and is_unacceptable(verdict.verdict):
        ElementTree.SubElement(case, "failure", type=verdict.verdict, message=_text(verdict.because))


def _append_cell(suite: ElementTree.Element, row: SchemeRow, cell: TableCell, is_unacceptable: IsUnacceptable) -> None:
    name = f"{cell.column.label} ({cell.column.threat_model})"
    case = ElementTree.SubElement(suite, "testcase", classname=_text(row.label), name=_text(name))
    if cell.result is not None:
        case.set("time", f"{cell.result.seconds:.3f}")
    if cell.verdict in ("broken", "leaks") and is_unacceptable(cell.verdict):
        ElementTree.SubElement(case, "failure", type=cell.verdict, message=_text(_describe(cell)))
    elif cell.cell is not None and cell.cell.status == Status.FAILED:
        ElementTree.SubElement(case, "error", message=_text(cell.empty_reason or "no reason was given"))
    elif cell.result is None:
        ElementTree.SubElement(case, "skipped", message=_text(cell.empty_reason or cell.empty_text))


def _describe(cell: TableCell) -> str:
    """`mean SSIM 0.049, 54 % of images identified (chance 3.8 %)`."""
    result = cell.result
    parts = []
    if result is not None and result.ssim is not None:
        parts.append(f"mean SSIM {cell.figure}")
    if result is not None and result.identification is not None:
        rate, chance = map(format_percent, (result.identification.top1, result.identification.chance))
        parts.append(f"{rate} of images identified (chance {chance})")
    return ", ".join(parts) or cell.figure or cell.verdict or ""


def _count_outcomes(element: ElementTree.Element, tests: int) -> None:
    element.set("tests", str(tests))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(1 for _ in element.iter(tag))))


def _text(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return _NOT_XML.sub("?", text)
