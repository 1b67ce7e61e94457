"""Boards without a service."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from unveil.app.board.service import paper_rows
from unveil.app.report.board import Board, BoardBreak, BoardCost, BoardRow, BoardUtility, ThreatModelFigures

DATASET = "d" * 64


def make_row(name: str, verdict: Any = "leaks", **fields: Any) -> BoardRow:
    """A row with two threat models. name: its title and label."""
    own = {"evaluation": "ev_1", "cell": "cell_1", "profile": "quick"}
    figures = ThreatModelFigures(
        verdict=verdict, because="it shows the images", attack="fr", ssim=0.31, identification=0.77, **own
    )
    unsure = ThreatModelFigures(verdict="inconclusive", because="not run: itn", attack=None, **{**own, "cell": None})
    values: dict[str, Any] = {
        "scheme": {"name": name}, "title": name, "label": name, "because": "it shows the images", "headline": verdict,
        "by_threat_model": {"ciphertext-only": figures, "known-plaintext": unsure}, "leak": 0.77, "seed": 0,
        "command": f"unveil evaluate --schemes {name}", "evaluations": ["ev_1"],
        "measured_at": datetime(2026, 1, 2, tzinfo=UTC), "versions": {"unveil": "0.2.0", "torch": None}, **own,
    }  # fmt: skip
    return BoardRow(**{**values, **fields}, verdict=verdict)


def make_board(*rows: BoardRow) -> Board:
    return Board(
        rows=list(rows),
        paper=paper_rows(),
        dataset="sample",
        dataset_sha256=DATASET,
        profiles=["quick"],
        rules_version=2,
    )


def utility(protected: float) -> dict[str, Any]:
    accuracy = BoardUtility(plain=0.9, protected=protected, drop=90 - 100 * protected, evaluation="ev_1")
    return {"utility": accuracy, "cost": BoardCost(images_per_second=1234.5)}


def broken_row(name: str, **fields: Any) -> BoardRow:
    cheapest = BoardBreak(
        "key-recovery", 2, None, None, 4.0, threat_model="ciphertext-only", evaluation="ev_1", cell="cell_1"
    )
    headline = "broken with 2 protected images in 4.0 s"
    return make_row(name, "broken", cheapest_break=cheapest, headline=headline, leak=1.0, **fields)
