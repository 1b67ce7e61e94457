"""Requests that repeat an evaluation: the whole one, or what failed. The old evaluation does not change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unveil.app.db.job_states import Status
from unveil.app.evaluations.schemas import EvaluationCreate
from unveil.app.report.evaluation import Entry, Evaluation

_MAX_NAME_LENGTH = 200
_RETRY_SUFFIX = " (retry)"
# Recorded for readers: a repetition uses the images that the profile takes today, and the current names of datasets.
_RECORDED_ONLY = ("training_images", "test_images", "dataset_name", "public_dataset_name")
_WITHOUT_ATTACK = {"name": "none"}


def repeat_request(evaluation: Evaluation) -> dict[str, Any]:
    """The same schemes, attacks and settings again. A key that can no longer be used is trained again."""
    known = EvaluationCreate.model_fields.keys() - set(_RECORDED_ONLY)
    settings = {name: value for name, value in evaluation.settings.items() if name in known and value is not None}
    return {
        **settings,
        "name": evaluation.name,
        "schemes": _repeat_entries(evaluation, evaluation.settings["schemes"]),
        "attacks": _repeat_entries(evaluation, evaluation.settings["attacks"]),
    }


def retry_request(evaluation: Evaluation) -> dict[str, Any]:
    """The schemes of failed cells under the attacks that failed on one of them."""
    request = repeat_request(evaluation)
    cells = [cell for cell in evaluation.cells if cell.status == Status.FAILED]
    utility = [job for job in evaluation.utility if job.status == Status.FAILED]
    name = evaluation.name.removesuffix(_RETRY_SUFFIX)[: _MAX_NAME_LENGTH - len(_RETRY_SUFFIX)]
    return {
        **request,
        "name": name + _RETRY_SUFFIX,
        "schemes": _repeat_entries(evaluation, [job.scheme for job in (*cells, *utility)]),
        "attacks": _repeat_entries(evaluation, [cell.attack for cell in cells]) or [_WITHOUT_ATTACK],
        "utility": bool(utility),
    }


def _repeat_entries(evaluation: Evaluation, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Each entry once, without what a request does not name, and without keys that can no longer be used."""
    unusable = {key["id"] for key in evaluation.keys if key["status"] != "ready"}
    repeated = [
        {
            name: value
            for name, value in entry.items()
            if name not in ("added", "dataset_name") and not (name == "key_id" and value in unusable)
        }
        for entry in entries
    ]
    return [entry for position, entry in enumerate(repeated) if entry not in repeated[:position]]
