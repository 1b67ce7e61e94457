"""An evaluation as a LaTeX table, and text in LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterator

from unveil.app.report.table import EvaluationTable, SchemeRow
from unveil.models.core.version import __version__

_SPECIAL = str.maketrans(
    {
        # BibTeX counts escaped braces too. The roman fonts of LaTeX's default encoding have other glyphs at < > |.
        "\\": r"\textbackslash{}", "{": r"\textbraceleft{}", "}": r"\textbraceright{}", "<": r"\textless{}",
        ">": r"\textgreater{}", "|": r"\textbar{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--",
    }
)  # fmt: skip


def escape_latex(text: str) -> str:
    """The text in one line, with every character that LaTeX or BibTeX would interpret escaped."""
    return one_line(text).translate(_SPECIAL)


def one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def to_latex(table: EvaluationTable) -> str:
    """A `tabular` of the package booktabs: schemes as rows, attacks as columns, mean SSIM or the other figure."""
    heads = map(escape_latex, ("Scheme", "Verdict", *(column.title for column in table.columns)))
    evaluation = table.evaluation
    lines = [
        f"% {one_line(evaluation.name)}, {evaluation.id}, profile {table.profile}, Unveil {__version__}",
        rf"\begin{{tabular}}{{ll{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
        *(" & ".join(_cells(row, table)) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join([*lines, ""])


def _cells(row: SchemeRow, table: EvaluationTable) -> Iterator[str]:
    yield escape_latex(row.title)
    yield escape_latex(row.verdict.verdict if row.verdict else "")
    for column in table.columns:
        yield escape_latex(row.cell_for(column).figure or "–")
