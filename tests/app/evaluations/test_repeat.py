"""Requests that repeat an evaluation, or what failed of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from unveil.app.db.job_states import Status
from unveil.app.evaluations.repeat import repeat_request, retry_request
from unveil.app.evaluations.schemas import EvaluationCreate
from unveil.app.report.evaluation import Cell, Evaluation, Progress, UtilityJob

TANAKA, ELE = {"name": "tanaka", "variant": "paper"}, {"name": "ele"}
TRAINED = {"name": "tn-model", "key_id": "key_1"}
FR, ITN = {"name": "fr", "L": 8}, {"name": "itn", "epochs": 3}


def make_cell(scheme: dict[str, Any], attack: dict[str, Any], status: Status) -> Cell:
    name = f"{scheme['name']}/{attack['name']}"
    return Cell(id=name, scheme=scheme, attack=attack, status=status, progress=1.0, threat_model="ciphertext-only")


def make_evaluation(*cells: Cell, schemes: list[dict[str, Any]], key_status: str = "ready", **more: Any) -> Evaluation:
    settings = {
        "name": "as requested", "schemes": schemes, "attacks": [FR, ITN], "dataset": "sample", "dataset_name": "sample",
        "public_dataset": None, "profile": "smoke", "seed": 7, "keys": 2, "utility": True, "training_images": 64,
        "setting_of_a_later_version": 1,
    }  # fmt: skip
    return Evaluation(
        id="ev_1", name="audit", status=Status.FAILED, created_at=datetime(2026, 1, 1, tzinfo=UTC), started_at=None,
        finished_at=None, progress=Progress(done=0, total=0, fraction=1.0, eta_s=None, phase=None), verdicts=[],
        cells=list(cells), keys=[{"id": "key_1", "status": key_status}], settings=settings, **more,
    )  # fmt: skip


def test_an_evaluation_is_repeated_with_its_settings() -> None:
    request = EvaluationCreate.model_validate(repeat_request(make_evaluation(schemes=[TANAKA, TRAINED])))
    assert (request.name, request.seed, request.keys, request.utility) == ("audit", 7, 2, True)
    assert [entry.model_dump(exclude_none=True) for entry in request.attacks] == [FR, ITN]
    assert request.schemes[1].key_id == "key_1", "its trained key is used again"
    assert request.training_images is None, "as many as the profile takes today"


def test_a_key_whose_training_failed_is_trained_anew() -> None:
    request = repeat_request(make_evaluation(schemes=[TRAINED], key_status="failed"))
    assert request["schemes"] == [{"name": "tn-model"}]


def test_a_retry_holds_the_schemes_and_attacks_that_failed() -> None:
    cells = [
        make_cell(TANAKA, FR, Status.SUCCEEDED),
        make_cell(TANAKA, ITN, Status.FAILED),
        make_cell(ELE, FR, Status.SUCCEEDED),
        make_cell(ELE, ITN, Status.NOT_APPLICABLE),
    ]
    request = retry_request(make_evaluation(*cells, schemes=[TANAKA, ELE]))
    assert (request["schemes"], request["attacks"], request["utility"]) == ([TANAKA], [ITN], False)
    assert request["name"] == "audit (retry)"


def test_a_retry_of_utility_alone_attacks_nothing() -> None:
    utility = UtilityJob(id="u", scheme=ELE, status=Status.FAILED, progress=0.5)
    cell = make_cell(ELE, FR, Status.SUCCEEDED)
    request = retry_request(make_evaluation(cell, schemes=[TANAKA, ELE], utility=[utility]))
    assert (request["schemes"], request["attacks"], request["utility"]) == ([ELE], [{"name": "none"}], True)
