"""`unveil board` against the running service."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from tests.app.cli.test_commands import run  # noqa: F401 - a fixture


def test_a_board_is_printed_exported_and_published(run, tmp_path: Path) -> None:  # noqa: F811
    order = ("--schemes", "tanaka", "--attacks", "fr", "--profile", "smoke", "--keys", "1", "--seed", "5")
    run("evaluate", *order, "--watch")
    body = json.loads(run("board", "--dataset", "sample", "--json"))
    row = next(row for row in body["rows"] if row["scheme"] == {"name": "tanaka", "variant": "paper", "block": 4})
    assert row["headline"].startswith("broken with ")
    table = run("board", "--dataset", "sample")
    assert row["headline"] in table
    assert "the paper" in table
    lines = list(csv.DictReader(io.StringIO(run("board", "--dataset", "sample", "--csv"))))
    assert {"measured", "paper"} == {line["source"] for line in lines}
    assert run("board", "--latex").count("\\toprule") == 1
    assert "@software{unveil-board-" in run("board", "--bibtex")

    run("board", "--dataset", "sample", "-o", str(tmp_path / "site"))
    assert json.loads((tmp_path / "site" / "board.json").read_text())["rows"] == body["rows"]
    card = json.loads((tmp_path / "site" / "cards" / "tanaka.json").read_text())
    assert card["dataset_sha256"] == body["dataset_sha256"]
    assert "empty" in run("board", "--dataset", "nowhere", "-o", str(tmp_path / "none"), code=2)
    assert "choose one" in run("board", "--csv", "--json", code=2)
