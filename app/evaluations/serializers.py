"""Turns rows into answers: progress, verdicts, links. Pure functions of rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row

from unveil.app.db.job_states import ACTIVE, TERMINAL, Status
from unveil.app.db.tables import Cell, Evaluation, Key
from unveil.app.evaluations.schemas import EvaluationOut, EvaluationSummary
from unveil.app.evaluations.verdicts import CellRow, compute_verdicts, load_verdicts, store_verdicts
from unveil.app.jobs import eta, event_log
from unveil.app.keys import service as keys_service
from unveil.app.report import evaluation as view
from unveil.app.report.evaluation import EvaluationVerdict, JobError, Progress, Sample, UtilityJob
from unveil.models import catalog
from unveil.models.core.cell_result import CellResult, UtilityResult
from unveil.models.core.version import package_versions

_FIELDS_OF_RESULT = ("capabilities", "leaking_images", "ambiguity", "comparison")  # that cells have, too


def to_summary(
    evaluation: Evaluation, cells: Sequence[Row[Any]], keys: Sequence[Key], *, worker_live: bool
) -> EvaluationSummary:
    """cells: in their order. keys: those that are trained for the evaluation. worker_live: whether an attack worker is
    running. Stores the verdicts at the first call.
    """
    verdicts = load_verdicts(evaluation)
    if verdicts is None:
        verdicts, _ = compute_verdicts(evaluation.settings, [cell for cell in cells if not is_utility(cell)])
        if evaluation.status in TERMINAL:
            store_verdicts(evaluation, verdicts)
    waits = _Waits(keys, worker_live)
    return EvaluationSummary(**_summary_fields(evaluation, cells, keys, verdicts, waits))


def to_detail(
    evaluation: Evaluation,
    cells: Sequence[Cell],
    keys: Sequence[Key],
    samples: Sequence[Row[Any]],
    *,
    worker_live: bool,
) -> EvaluationOut:
    waits = _Waits(keys, worker_live)
    by_cell: dict[str, list[Row[Any]]] = {}
    for sample in samples:
        by_cell.setdefault(sample.cell_id, []).append(sample)
    attacked = [cell for cell in cells if not is_utility(cell)]
    verdicts, results = compute_verdicts(evaluation.settings, attacked)
    typed_cells = [to_cell(cell, results.get(cell.id), by_cell.get(cell.id, []), waits) for cell in attacked]
    utility = [to_utility_job(cell, waits) for cell in cells if is_utility(cell)]
    return EvaluationOut(
        **_summary_fields(evaluation, cells, keys, verdicts, waits),
        keys=[keys_service.to_key_out(key) for key in keys],
        cells=typed_cells,
        utility=utility,
        settings=evaluation.settings,
        versions=_worker_versions([*typed_cells, *utility]),
        estimated_core_hours=round(sum(row.estimated_core_seconds for rows in (cells, keys) for row in rows) / 3600, 6),
    )


def to_view(detail: EvaluationOut) -> view.Evaluation:
    """The evaluation for report and dashboard."""
    known = {field.name: getattr(detail, field.name) for field in dataclasses.fields(view.Evaluation)}
    return view.Evaluation(**{**known, "keys": [key.model_dump(mode="json") for key in detail.keys]})


def _summary_fields(
    evaluation: Evaluation,
    cells: Sequence[CellRow],
    keys: Sequence[Key],
    verdicts: list[EvaluationVerdict],
    waits: _Waits,
) -> dict[str, Any]:
    base = evaluation_url(evaluation.id)
    return {
        "id": evaluation.id,
        "name": evaluation.name,
        "tags": evaluation.tags,
        "notes": evaluation.notes,
        "status": evaluation.status,
        "created_at": evaluation.created_at,
        "started_at": evaluation.started_at,
        "finished_at": evaluation.finished_at,
        "progress": _build_progress(evaluation, cells, keys, waits, datetime.now(UTC)),
        "verdicts": verdicts,
        "links": {
            "self": base,
            "cancel": f"{base}/cancel",
            "events": f"{base}/events",
            "report": f"{base}/report.html",
        },
    }


def evaluation_url(evaluation_id: str, cell_id: str | None = None) -> str:
    return f"/evaluations/{evaluation_id}" + (f"/cells/{cell_id}" if cell_id else "")


@dataclass(frozen=True)
class _Waits:
    """What the queued jobs of an evaluation wait for."""

    keys: Sequence[Key]  # trained for the evaluation
    worker_live: bool  # whether an attack worker is running

    def describe(self, job: CellRow | Key) -> str:
        if not isinstance(job, Key):
            training = {key.id for key in self.keys if key.status in ACTIVE}
            if job.scheme.get("key_id") in training:
                return f"waiting for the key {job.scheme['key_id']} to be trained"
        return waiting_for_worker(self.worker_live)


def waiting_for_worker(worker_live: bool) -> str:
    """What a queued job waits for that could start at once."""
    return "waiting for a free attack worker" if worker_live else "waiting: no attack worker is running"


def _build_progress(
    evaluation: Evaluation, cells: Sequence[CellRow], keys: Sequence[Key], waits: _Waits, now: datetime
) -> Progress:
    """`done` and `total` count cells; `fraction` and `eta_s` include the training of keys."""
    jobs = event_log.job_progress(cells, keys)
    remaining_s = eta.estimate_remaining_seconds(jobs, now) if evaluation.status == Status.RUNNING else None
    done, total = event_log.count_cells(cells)
    return Progress(
        done=done,
        total=total,
        fraction=round(eta.weighted_progress(jobs), 4),
        eta_s=None if remaining_s is None else round(remaining_s, 1),
        phase=_current_phase([*keys, *cells], waits),
    )


def _current_phase(jobs: Sequence[CellRow | Key], waits: _Waits) -> str | None:
    running = [job for job in jobs if job.status == Status.RUNNING]
    if not running:
        queued = next((job for job in jobs if job.status == Status.QUEUED), None)
        return None if queued is None else waits.describe(queued)
    first = running[0]
    if isinstance(first, Key):
        description = f"training {first.scheme} key"
    else:
        description = f"{first.attack['name']} on {first.scheme['name']}"
    more = f", and {len(running) - 1} more" if len(running) > 1 else ""
    return description + (f", {first.phase}" if first.phase else "") + more


def to_cell(cell: Cell, result: CellResult | None, samples: Sequence[Any], waits: _Waits) -> view.Cell:
    base = evaluation_url(cell.evaluation_id, cell.id)
    return view.Cell(
        **_job_fields(cell, waits),
        attack=cell.attack,
        threat_model=cell.threat_model,
        attempt=cell.attempt,
        origin=(cell.result or {}).get("origin") or catalog.origins(cell.scheme["name"], cell.attack["name"]),
        started_at=cell.started_at,
        finished_at=cell.finished_at,
        requested=cell.requested,
        **({} if result is None else {name: getattr(result, name) for name in _FIELDS_OF_RESULT}),
        result=None if result is None else replace(result, evidence=None),
        samples=[_to_sample(base, sample) for sample in samples],
        links={"curve": f"{base}/curve", "scores": f"{base}/scores.csv"},
    )


def to_utility_job(cell: Cell, waits: _Waits) -> UtilityJob:
    return UtilityJob(
        **_job_fields(cell, waits),
        result=None if cell.result is None else UtilityResult.from_json(cell.result),
        links={"curve": f"{evaluation_url(cell.evaluation_id, cell.id)}/curve"},
    )


def _job_fields(cell: Cell, waits: _Waits) -> dict[str, Any]:
    applies = cell.status != Status.NOT_APPLICABLE
    error = None if cell.error is None else JobError.from_json(cell.error)
    return {
        "id": cell.id,
        "scheme": cell.scheme,
        "status": Status(cell.status),
        "progress": round(cell.progress, 4),
        "phase": _phase(cell, waits),
        "error": error if applies else None,
        "reason": None if applies or error is None else error.detail,
    }


def _phase(cell: Cell, waits: _Waits) -> str | None:
    if cell.status == Status.QUEUED:
        return waits.describe(cell)
    return (cell.phase or None) if cell.status in ACTIVE else None


def is_utility(cell: CellRow) -> bool:
    """Whether the job measures the utility of a scheme instead of running an attack."""
    return bool(cell.attack["name"] == catalog.UTILITY)


def _to_sample(base: str, sample: Any) -> Sample:
    sample_url = f"{base}/samples/{sample.index}"
    return Sample(
        index=sample.index,
        ssim=sample.ssim,
        plain=f"{sample_url}/plain.png" if sample.has_plain else None,
        protected=f"{sample_url}/protected.png",
        reconstructed=f"{sample_url}/reconstructed.png",
    )


def _worker_versions(jobs: Iterable[view.Cell | UtilityJob]) -> dict[str, str | None]:
    """Of the worker that computed the first finished job; before that, of this installation."""
    for job in jobs:
        if job.result is not None and job.result.versions:
            return dict(job.result.versions)
    return dict(package_versions())
