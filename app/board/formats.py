"""The board as CSV, LaTeX and BibTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum

from unveil.app.report.board import Board, BoardRow, PaperBoardRow, ThreatModelFigures
from unveil.app.report.formats import escape_csv
from unveil.app.report.labels import format_percent
from unveil.app.report.latex import escape_latex, one_line
from unveil.models.core.version import __version__


class BoardFormat(StrEnum):
    CSV = "csv"
    LATEX = "tex"
    BIBTEX = "bib"


MEDIA_TYPES = {
    BoardFormat.CSV: "text/csv",
    BoardFormat.LATEX: "application/x-tex",
    BoardFormat.BIBTEX: "application/x-bibtex",
}

_FIGURES = ("ssim", "vif", "identification", "linkage", "ciphertexts", "pairs", "queries")


def render(board: Board, format: BoardFormat) -> str:
    return {BoardFormat.CSV: to_csv, BoardFormat.LATEX: to_latex, BoardFormat.BIBTEX: to_bibtex}[format](board)


def to_csv(board: Board) -> str:
    """One line for each scheme and threat model, the paper's rows last."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "source", "scheme", "scheme_verdict", "headline", "threat_model", "verdict", "attack", *_FIGURES, "profile",
            "evaluation", "cell", "plain_accuracy", "protected_accuracy", "images_per_second", "key_space_bits",
            "effective_bits", "measured_at", "command",
        ]
    )  # fmt: skip
    for row in board.rows:
        for model, figures in row.by_threat_model.items():
            writer.writerow(map(escape_csv, _csv_line(row, model, figures)))
    for paper in board.paper:
        for model, own in paper.by_threat_model.items():
            line = ["paper", paper.title, "", "", model, own.verdict, own.attack, own.ssim]
            writer.writerow(map(escape_csv, line + [""] * (len(_FIGURES) + 9)))
    return text.getvalue()


def _csv_line(row: BoardRow, model: str, figures: ThreatModelFigures) -> Iterator[object]:
    yield from ("measured", row.label, row.verdict, row.headline, model, figures.verdict, figures.attack)
    yield from (getattr(figures, name) for name in _FIGURES)
    yield from (figures.profile, figures.evaluation, figures.cell)
    yield from (row.utility.plain, row.utility.protected) if row.utility else (None, None)
    yield row.cost.images_per_second if row.cost else None
    yield from (row.key_space_bits, row.effective_bits, row.measured_at.isoformat(), row.command)


def to_latex(board: Board) -> str:
    """A `tabular` of the package booktabs: SSIM and identification of the worst case by threat model."""
    models = board.threat_models
    caption = f"Worst case on {board.dataset or 'no dataset'}, rules {board.rules_version}, Unveil {__version__}"
    lines = [
        f"% {one_line(caption)}; dataset SHA-256 {board.dataset_sha256 or 'unknown'}",
        rf"\begin{{tabular}}{{ll{'r' * len(models)}}}",
        r"\toprule",
        rf"Scheme & Verdict & {' & '.join(map(escape_latex, models))} \\",
        r"\midrule",
    ]
    lines += [_latex_line(row, models, row.verdict) for row in board.rows]
    if board.paper:
        lines += [r"\midrule", *(_latex_line(row, models, "paper") for row in board.paper)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_line(row: BoardRow | PaperBoardRow, models: list[str], verdict: str) -> str:
    cells = [escape_latex(row.title), escape_latex(verdict)]
    for model in models:
        figures = row.by_threat_model.get(model)
        parts = [] if figures is None or figures.ssim is None else [f"{figures.ssim:.2f}"]
        if isinstance(figures, ThreatModelFigures) and figures.identification is not None:
            parts.append(f"({format_percent(figures.identification)})")
        cells.append(escape_latex(" ".join(parts) or "--"))
    return " & ".join(cells) + r" \\"


def to_bibtex(board: Board) -> str:
    """The board itself, and the paper whose values it shows."""
    newest = max((row.measured_at for row in board.rows), default=None)
    name = f"unveil-board-{(board.dataset_sha256 or 'empty')[:12]}"
    note = f"Dataset SHA-256 {board.dataset_sha256 or 'unknown'}, verdict rules {board.rules_version}"
    fields = {
        "title": f"{{Board of image encryption schemes on {escape_latex(board.dataset or 'no dataset')}}}",
        "author": "{{The Unveil maintainers}}",
        "year": f"{{{newest.year if isinstance(newest, datetime) else ''}}}",
        "version": f"{{{__version__}}}",
        "note": f"{{{note}}}",
    }
    own = ",\n".join(f"  {field} = {value}" for field, value in fields.items())
    return f"@software{{{name},\n{own}\n}}\n\n{_PAPER}"


_PAPER = """@article{sirichotedumrong2020visual,
  title = {Visual Security Evaluation of Learnable Image Encryption Methods against Ciphertext-only Attacks},
  author = {Sirichotedumrong, Warit and Kiya, Hitoshi},
  journal = {arXiv:2010.06198},
  year = {2020},
  doi = {10.48550/arXiv.2010.06198}
}
"""
