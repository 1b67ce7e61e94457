"""A board as a static site: one page that loads nothing, a card for each scheme, and the board in every format."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import jinja2

from unveil.app.board import formats
from unveil.app.board.assets import STATIC_DIR, TEMPLATE_DIR, VERDICT_ORDER
from unveil.app.board.formats import BoardFormat
from unveil.app.board.plot import build_plot
from unveil.app.report import formats as report_formats
from unveil.app.report import narrative
from unveil.app.report.board import Board, BoardRow, Card, ThreatModelFigures
from unveil.app.report.labels import format_number, format_percent, title
from unveil.models.core.version import __version__

CARD_SCHEMA = "card.schema.json"


def write_site(board: Board, folder: Path) -> list[Path]:
    """Write the site and return its files. Cards of an earlier board in the folder are deleted. Raises OSError."""
    cards = folder / "cards"
    cards.mkdir(parents=True, exist_ok=True)
    for old in cards.glob("*.json"):
        old.unlink()
    slugs = _slugs(board)
    files = {
        folder / "index.html": _render_page(board, slugs),
        folder / "board.json": json.dumps(board.to_json(), indent=2),
        folder / CARD_SCHEMA: (Path(__file__).parent / CARD_SCHEMA).read_text(encoding="utf-8"),
        **{folder / f"board.{format.value}": formats.render(board, format) for format in BoardFormat},
    }
    for row in board.rows:
        assert board.dataset is not None
        assert board.dataset_sha256 is not None
        card = Card(
            row=row,
            dataset=board.dataset,
            dataset_sha256=board.dataset_sha256,
            rules_version=board.rules_version,
        )
        body = {"$schema": f"../{CARD_SCHEMA}", **card.to_json()}
        files[cards / f"{slugs[row.label]}.json"] = json.dumps(body, indent=2)
    for path, text in files.items():
        path.write_text(text if text.endswith("\n") else f"{text}\n", encoding="utf-8")
    return list(files)


def _slugs(board: Board) -> dict[str, str]:
    """A file name for each row, by label."""
    slugs: dict[str, str] = {}
    for row in board.rows:
        slug = re.sub(r"[^a-z0-9]+", "-", row.label.lower()).strip("-")[:80] or "scheme"
        taken = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other) is not None for other in slugs.values())
        slugs[row.label] = f"{slug}-{taken + 1}" if taken else slug
    return slugs


def _render_page(board: Board, slugs: Mapping[str, str]) -> str:
    css = report_formats.CSS + (STATIC_DIR / "board.css").read_text(encoding="utf-8")
    script = (STATIC_DIR / "board.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; style-src '{_csp_hash(css)}'; script-src '{_csp_hash(script)}'; base-uri 'none'; "
        "form-action 'none'"
    )

    def row_link(row: BoardRow) -> str:
        return f"#{slugs[row.label]}"

    def cell_link(row: BoardRow, _: ThreatModelFigures) -> str:
        return row_link(row)

    return (
        _environment()
        .get_template("board-site.html")
        .render(
            board=board,
            slugs=slugs,
            css=css,
            script=script,
            policy=policy,
            plot=build_plot(board, row_link),
            row_link=row_link,
            cell_link=cell_link,
            version=__version__,
        )
    )


def _csp_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([TEMPLATE_DIR, report_formats.TEMPLATE_DIR]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(figure=format_number, percent=format_percent)
    environment.globals.update(title_of=title, verdict_order=VERDICT_ORDER, sentences=narrative)
    return environment
