"""Build gate: exit code 4 if a verdict meets --fail-on, and the result files that build servers show."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from unveil.app.cli.common import stderr

if TYPE_CHECKING:
    from unveil.app.report.table import EvaluationTable

FailOn = Literal["broken", "leaks", "inconclusive"]

EXIT_CONDITION_MET = 4

Junit = Annotated[Path | None, typer.Option("--junit", help="Write the verdicts as JUnit XML to this file")]
Summary = Annotated[Path | None, typer.Option("--summary", help="Write a Markdown summary to this file")]


def is_met(fail_on: FailOn | None, verdict: str) -> bool:
    """Whether the verdict is `fail_on` or a worse one."""
    order = get_args(FailOn)
    return fail_on is not None and verdict in order[: order.index(fail_on) + 1]


def write_files(table: EvaluationTable, fail_on: FailOn | None, junit: Path | None, summary: Path | None) -> None:
    """Raises OSError."""
    if junit is None and summary is None:
        return
    from unveil.app.report import build_summary  # loads the report, which other commands do not need

    if junit is not None:
        junit.write_bytes(build_summary.junit_xml(table, partial(is_met, fail_on)))
    if summary is not None:
        summary.write_text(build_summary.markdown_summary(table, partial(is_met, fail_on)), encoding="utf-8")


def exit_if_met(fail_on: FailOn | None, verdicts: Iterable[str]) -> None:
    """Raises typer.Exit with EXIT_CONDITION_MET."""
    met = [verdict for verdict in verdicts if is_met(fail_on, verdict)]
    if met:
        stderr().print(f"--fail-on {fail_on} is met by: {', '.join(dict.fromkeys(met))}")
        raise typer.Exit(EXIT_CONDITION_MET)
