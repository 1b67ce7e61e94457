"""The tables of an evaluation on a terminal: verdicts first, then a matrix, and no word broken at any width."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime

import pytest
from rich.console import Console

from unveil.app.cli.console import PlainConsole
from unveil.app.cli.evaluation_table import render
from unveil.app.db.job_states import Status
from unveil.app.report.evaluation import Cell, Evaluation, EvaluationVerdict, Progress
from unveil.app.report.table import EvaluationTable
from unveil.models.core.cell_result import CellResult, IdentificationSummary, SsimSummary

KEY_ID, DATASET_ID = "key_01a22e43efe07d299a06329d860203af", "ds_01a22e43efe07d299a06329d86abcdef"
SCHEMES = [
    {"name": "pixelwise", "key_mode": "same"},
    {"name": "pixelwise", "key_mode": "different"},
    {"name": "tn-gan", "key_id": KEY_ID},
    {"name": "external", "dataset": DATASET_ID, "dataset_name": "my scheme"},
]
ATTACKS = ["none", "fr", "brute-force", "itn-strong", "key-recovery", "known-plaintext", "chosen-plaintext", "linkage"]
VERDICTS = ["leaks", "inconclusive", "no leak found", "broken"]


def make_table() -> EvaluationTable:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    cells = [
        Cell(
            id=f"cell_{s}{a}",
            scheme=scheme,
            attack={"name": attack},
            status=Status.NOT_APPLICABLE if (s, attack) == (1, "key-recovery") else Status.SUCCEEDED,
            progress=1.0,
            threat_model="ciphertext-only",
            requested=attack != "linkage",
            reason="every image has a key of its own" if (s, attack) == (1, "key-recovery") else None,
            result=None if (s, attack) == (1, "key-recovery") else make_result((s + a) % 4, attack),
        )
        for s, scheme in enumerate(SCHEMES)
        for a, attack in enumerate(ATTACKS)
    ]
    verdicts = [
        EvaluationVerdict(scheme=scheme, verdict=VERDICTS[s], because=f"reason {s}", paper={"fr": "robust"})
        for s, scheme in enumerate(SCHEMES)
    ]
    return EvaluationTable(
        Evaluation(
            id="ev_1", name="audit", status=Status.SUCCEEDED, created_at=now, started_at=now, finished_at=now,
            progress=Progress(done=31, total=31, fraction=1.0, eta_s=None, phase=None),
            verdicts=verdicts, cells=cells, settings={"profile": "quick"},
        )
    )  # fmt: skip


def make_result(number: int, attack: str) -> CellResult:
    if attack == "brute-force":
        return CellResult(key_space_bits=51471.2, verdict=VERDICTS[number], seconds=1.0, device="cpu")
    return CellResult(
        ssim=SsimSummary(mean=0.25 * number, std=0.1, ci_low=0, ci_high=1, n=32, mode="rgb7"),
        identification=IdentificationSummary(
            top1=0.25 * number, chance=0.1, ci_low=0, ci_high=1, gallery=32, above_chance=False
        ),
        paper_ssim=0.1079 if attack == "fr" else None,
        verdict=VERDICTS[number],
        seconds=1.0,
        device="cpu",
    )


def lines_at(width: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, markup=False, emoji=False).print(render(make_table()))
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 60, 10_000])
def test_words_stay_whole_at_any_width(width: int) -> None:
    lines = lines_at(width)
    assert max(map(len, lines)) <= width
    words = {word for line in lines for word in re.split(r"[\s:,]+", line)}
    assert words >= {*ATTACKS[:-1], "linkage*", "inconclusive", "leaks", "broken", "N/A", "2^51471", "0.108", "0.750"}
    assert "no leak found" in "\n".join(lines)
    assert not [word for word in words if word.endswith("…")]


def test_verdicts_stand_before_the_matrix_of_schemes_and_attacks() -> None:
    lines = lines_at(10_000)
    assert lines[0] == "audit: succeeded"
    assert lines[1].startswith("4 schemes: 1 broken, 1 leaks")
    assert lines.index("pixelwise (same key): leaks") < lines.index("tn-gan (key …0203af): no leak found")
    (heading,) = (number for number, line in enumerate(lines) if line.startswith("scheme "))
    assert heading > lines.index("  reason 3")
    assert lines[heading].split() == ["scheme", *ATTACKS[:-1], "linkage*"]
    rows = [line for line in lines[heading:] if line.startswith(("pixelwise", "tn-gan", "external"))]
    assert len(rows) == len(SCHEMES), "a row for each scheme"
    assert [row.count("leaks") for row in rows] == [2, 2, 2, 2]
    assert rows[1].split("  ")[-1].split() != ["N/A"]
    assert "N/A: key-recovery on pixelwise (different keys): every image has a key of its own" in lines


def test_the_figures_of_a_scheme_with_a_short_name_are_named() -> None:
    table = make_table()
    for row in (*table.evaluation.cells, *table.evaluation.verdicts):
        object.__setattr__(row, "scheme", {"name": "ele"})
    file = io.StringIO()
    Console(file=file, width=80, markup=False, emoji=False).print(render(EvaluationTable(table.evaluation)))
    assert re.search(r"^ *identified ", file.getvalue(), re.MULTILINE)
    assert "…" not in file.getvalue()


@pytest.mark.parametrize("width", [80, 10_000])
def test_no_line_ends_in_blanks_in_a_pipe(width: int) -> None:
    file = io.StringIO()
    PlainConsole(file=file, width=width, markup=False, emoji=False).print(render(make_table()))
    lines = file.getvalue().splitlines()
    assert [line.rstrip() for line in lines] == lines
    assert lines == [line.rstrip() for line in lines_at(width)]


def test_keys_and_uploads_are_named_by_the_end_of_their_id() -> None:
    text = "\n".join(lines_at(80))
    assert "key …0203af" in text
    assert "external (my scheme, …abcdef)" in text
    assert KEY_ID not in text
    assert DATASET_ID not in text


def test_a_narrow_terminal_gets_several_parts_of_the_matrix() -> None:
    headings = [line.split()[1:] for line in lines_at(80) if line.startswith("scheme ")]
    assert len(headings) > 1
    assert [attack for heading in headings for attack in heading] == [*ATTACKS[:-1], "linkage*"]
