"""A board as a static site."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.app.board.boards import broken_row, make_board, make_row, utility
from unveil.app.board.plot import build_plot
from unveil.app.board.site import write_site
from unveil.app.report.board import Board, ThreatModelFigures

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    rows = [broken_row("tanaka", **utility(0.8)), make_row(EVIL), make_row("a (b)"), make_row("a: b")]
    write_site(make_board(*rows), tmp_path)
    return tmp_path


def test_each_scheme_has_a_card_that_fits_the_schema_and_repeats_it(site: Path):
    schema = json.loads((site / "card.schema.json").read_text())
    cards = {path.name: json.loads(path.read_text()) for path in (site / "cards").iterdir()}
    assert {*cards} == {"tanaka.json", "script-alert-1-script.json", "a-b.json", "a-b-2.json"}
    for card in cards.values():
        jsonschema.validate(card, schema)
        assert card["row"]["command"].startswith("unveil evaluate --schemes ")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cards["tanaka.json"], "rules_version": "two"}, schema)


def test_the_page_loads_nothing_is_small_and_shows_names_as_text(site: Path):
    page = (site / "index.html").read_text()
    assert len(page) < 200_000
    assert EVIL not in page
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", page)
    links = re.findall(r'href="([^"#]+)"', page)
    assert all((site / link).is_file() for link in links)
    assert {*re.findall(r'href="#([^"]+)"', page)} <= {*re.findall(r'id="([^"]+)"', page)}


def test_a_card_names_the_attack_within_its_sentence(tmp_path: Path):
    figures = {"because": "the key was found", "evaluation": "ev_1", "cell": "cell_1", "profile": "quick"}
    found = ThreatModelFigures(verdict="broken", attack="brute-force", **figures)
    write_site(make_board(make_row("np", "broken", by_threat_model={"ciphertext-only": found})), tmp_path)
    assert "broken</span> by brute force</dd>" in (tmp_path / "index.html").read_text()


def test_the_board_can_be_read_back(site: Path):
    board = Board.from_json(json.loads((site / "board.json").read_text()))
    assert board.rows[0].headline == "broken with 2 protected images in 4.0 s"
    assert board.threat_models[0] == "ciphertext-only"


def test_cards_of_an_earlier_board_do_not_stay(site: Path):
    write_site(make_board(make_row("ele")), site)
    assert [path.name for path in (site / "cards").iterdir()] == ["ele.json"]


def test_rows_with_utility_are_plotted_and_labels_of_close_points_stand_together():
    rows = [broken_row("tanaka", **utility(0.8)), broken_row("ele", **utility(0.81)), make_row("etc", **utility(0.2))]
    chart = build_plot(make_board(*rows, make_row("pixelwise")), lambda row: f"#{row.label}")
    assert chart is not None
    assert [(point.label, point.link) for point in chart.points] == [("1, 2", "#tanaka"), ("", "#ele"), ("3", "#etc")]
    first, _, last = chart.points
    assert first.y < last.y, "more leak is higher"
    assert first.x > last.x
    assert build_plot(make_board(make_row("pixelwise")), str) is None


def test_the_files_are_utf_8_whatever_the_locale(tmp_path: Path):
    script = (
        "import sys; from pathlib import Path; from tests.app.board.boards import make_board, make_row\n"
        "from unveil.app.board.site import write_site\n"
        "write_site(make_board(make_row('\\u6697\\u53f7')), Path(sys.argv[1]))"
    )
    ascii_locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env={**os.environ, **ascii_locale})
    for name in ("index.html", "board.csv"):
        assert "\u6697\u53f7" in (tmp_path / name).read_text(encoding="utf-8")
