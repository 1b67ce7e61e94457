"""Finished evaluations as workers would have left them, for boards."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.factories import identification_summary, make_evaluation, make_result
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Evaluation
from unveil.models.catalog import attacks
from unveil.models.core.cell_result import CellResult
from unveil.models.core.verdict_rules.evidence import CellEvidence, Effort, KeyEvidence, Rate
from unveil.worker.runtime import Runtime

DATASET = "d" * 64
TANAKA = {"name": "tanaka", "variant": "paper", "block": 4}


def leaking(attack: str, rate: float = 0.5, **fields: Any) -> CellResult:
    """Identifies this share of 500 images."""
    key = KeyEvidence(rates=(Rate("dihedral-24", int(500 * rate), 500, 0.002),), images_tested=500)
    return _result(attack, key, identification=identification_summary(rate), ssim=0.3, **fields)


def breaking(attack: str, ciphertexts: int, seconds: float, **fields: Any) -> CellResult:
    """Finds the exact key."""
    key = KeyEvidence(images_tested=500, ssim=0.99, key_exact=True)
    numbers = {"ciphertexts": float(ciphertexts)}
    effort = Effort(ciphertexts=ciphertexts, seconds=seconds)
    return _result(attack, key, effort=effort, numbers=numbers, key_agreement={"exact": True}, ssim=0.99, **fields)


def _result(attack: str, key: KeyEvidence, *, effort: Effort | None = None, ssim: float, **fields: Any) -> CellResult:
    model = attacks()[attack].threat_model.name
    controls: Any = {"positive": "passed", "negative": "passed"}
    evidence = CellEvidence(
        attack, model, {}, "succeeded", keys=(key,), controls=controls, gallery=500, effective_gallery=500.0,
        effort=effort or Effort(),
    )  # fmt: skip
    versions = {"unveil": "0.2.0", "torch": None, "python": "3.11"}
    values = {"dataset_sha256": DATASET, "versions": versions, "evidence": evidence, **fields}
    return make_result(ssim, **values)


@pytest.fixture
def finish(runtime: Runtime) -> Callable[..., tuple[str, list[str]]]:
    """Insert an evaluation of one scheme whose cells have these results: (its id, its cells' ids)."""

    def finish(
        account_id: str, results: dict[str, CellResult], scheme: dict[str, Any] | None = None, **settings: Any
    ) -> tuple[str, list[str]]:
        values = {"name": "test", "dataset_name": "sample", **settings}
        evaluation_id, cell_ids = make_evaluation(
            runtime.sessions, account_id, tuple(results), settings=values, scheme=scheme or TANAKA
        )
        with runtime.sessions.begin() as session:
            evaluation = session.get_one(Evaluation, evaluation_id)
            evaluation.status, evaluation.finished_at = Status.SUCCEEDED, datetime.now(UTC)
            for id, (attack, result) in zip(cell_ids, results.items(), strict=True):
                cell = session.get_one(Cell, id)
                cell.status, cell.result = Status.SUCCEEDED, result.to_json()
                cell.threat_model = attacks()[attack].threat_model.name
        return evaluation_id, cell_ids

    return finish
