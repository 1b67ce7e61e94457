"""The table of the README is that of the measured board."""

from __future__ import annotations

import csv
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_readme_shows_the_measured_board() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    shown = [[part.strip() for part in line.strip("|").split("|")] for line in lines if line.count("|") == 4]
    with (ROOT / "docs" / "board" / "sample" / "board.csv").open() as file:
        measured = [row for row in csv.DictReader(file) if row["source"] == "measured"]
    headlines = {f"`{row['scheme']}`": row["headline"] for row in measured}
    assert {scheme: headline for scheme, headline, *_ in shown if scheme in headlines} == headlines
    for row in measured:
        if row["threat_model"] == "ciphertext-only":
            (alone,) = (text for scheme, _, text in shown if scheme == f"`{row['scheme']}`")
            assert alone.startswith(f"{row['verdict']}: `{row['attack']}`")
            assert not row["ssim"] or f"SSIM {float(row['ssim']):.2f}" in alone
