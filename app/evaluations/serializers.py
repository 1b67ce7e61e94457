"""Turns rows into answers: progress, verdicts, links. Pure functions of rows."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sqlalchemy import Row

from unveil.app.db.job_states import ACTIVE, COMPLETED, Status
from unveil.app.db.tables import Cell, Evaluation, Key
from unveil.app.evaluations.schemas import EvaluationOut, EvaluationSummary
from unveil.app.jobs import eta, event_log
from unveil.app.keys import service as keys_service
from unveil.app.report import evaluation as view
from unveil.app.report.evaluation import EvaluationVerdict, JobError, Progress, Sample, UtilityJob
from unveil.app.report.labels import paper_row
from unveil.models import catalog
from unveil.models.core.cell_result import CellResult, UtilityResult
from unveil.models.core.verdicts import AttackOutcome, scheme_verdict
from unveil.models.core.version import __version__

_Cell = Cell | Row[Any]  # of `queries.list_cells` or of `queries.list_cell_summaries`


def to_summary(evaluation: Evaluation, cells: Sequence[Row[Any]], keys: Sequence[Key]) -> EvaluationSummary:
    """cells: in their order. keys: those that are trained for the evaluation."""
    outcomes = [(cell.scheme, _outcome(cell)) for cell in cells if not is_utility(cell)]
    return EvaluationSummary(**_summary_fields(evaluation, cells, keys, outcomes))


def to_detail(
    evaluation: Evaluation, cells: Sequence[Cell], keys: Sequence[Key], samples: Sequence[Row[Any]]
) -> EvaluationOut:
    by_cell: dict[str, list[Row[Any]]] = {}
    for sample in samples:
        by_cell.setdefault(sample.cell_id, []).append(sample)
    typed_cells = [to_cell(cell, by_cell.get(cell.id, [])) for cell in cells if not is_utility(cell)]
    utility = [to_utility_job(cell) for cell in cells if is_utility(cell)]
    outcomes = [(cell.scheme, AttackOutcome(cell.attack["name"], cell.status, cell.result)) for cell in typed_cells]
    return EvaluationOut(
        **_summary_fields(evaluation, cells, keys, outcomes),
        keys=[keys_service.to_key_out(key) for key in keys],
        cells=typed_cells,
        utility=utility,
        settings=evaluation.settings,
        versions=_worker_versions([*typed_cells, *utility]),
    )


def to_view(detail: EvaluationOut) -> view.Evaluation:
    """The evaluation for report and dashboard."""
    known = {field.name: getattr(detail, field.name) for field in dataclasses.fields(view.Evaluation)}
    return view.Evaluation(**{**known, "keys": [key.model_dump(mode="json") for key in detail.keys]})


_Outcomes = Sequence[tuple[Mapping[str, Any], AttackOutcome]]  # with the scheme


def _summary_fields(
    evaluation: Evaluation, cells: Sequence[_Cell], keys: Sequence[Key], outcomes: _Outcomes
) -> dict[str, Any]:
    base = evaluation_url(evaluation.id)
    return {
        "id": evaluation.id,
        "name": evaluation.name,
        "status": evaluation.status,
        "created_at": evaluation.created_at,
        "started_at": evaluation.started_at,
        "finished_at": evaluation.finished_at,
        "progress": build_progress(evaluation, cells, keys, datetime.now(UTC)),
        "verdicts": build_verdicts(outcomes),
        "links": {
            "self": base,
            "cancel": f"{base}/cancel",
            "events": f"{base}/events",
            "report": f"{base}/report.html",
        },
    }


def evaluation_url(evaluation_id: str, cell_id: str | None = None) -> str:
    return f"/evaluations/{evaluation_id}" + (f"/cells/{cell_id}" if cell_id else "")


def build_progress(evaluation: Evaluation, cells: Sequence[_Cell], keys: Sequence[Key], now: datetime) -> Progress:
    """`done` and `total` count cells; `fraction` and `eta_s` include the training of keys."""
    jobs = event_log.job_progress(cells, keys)
    remaining_s = eta.estimate_remaining_seconds(jobs, now) if evaluation.status == Status.RUNNING else None
    return Progress(
        done=sum(cell.status in COMPLETED for cell in cells),
        total=len(cells),
        fraction=round(eta.weighted_progress(jobs), 4),
        eta_s=None if remaining_s is None else round(remaining_s, 1),
        phase=_current_phase([*keys, *cells]),
    )


def _current_phase(jobs: Sequence[_Cell | Key]) -> str | None:
    running = [job for job in jobs if job.status == Status.RUNNING]
    if not running:
        return None
    first = running[0]
    if isinstance(first, Key):
        description = f"training {first.scheme} key"
    else:
        description = f"{first.attack['name']} on {first.scheme['name']}"
    more = f", and {len(running) - 1} more" if len(running) > 1 else ""
    return description + (f", {first.phase}" if first.phase else "") + more


def build_verdicts(outcomes: _Outcomes) -> list[EvaluationVerdict]:
    """One for each scheme, in the order of the evaluation: the worst case over the attacks on it."""
    by_scheme: dict[str, tuple[Mapping[str, Any], list[AttackOutcome]]] = {}
    for scheme, outcome in outcomes:
        by_scheme.setdefault(repr(sorted(scheme.items())), (scheme, []))[1].append(outcome)
    return [
        EvaluationVerdict(scheme=scheme, paper=_paper_verdicts(scheme), **vars(scheme_verdict(own)))
        for scheme, own in by_scheme.values()
    ]


def _outcome(cell: _Cell) -> AttackOutcome:
    result = None if cell.result is None else CellResult.from_json(cell.result)
    return AttackOutcome(cell.attack["name"], cell.status, result)


def _paper_verdicts(entry: Mapping[str, Any]) -> dict[str, str] | None:
    """The paper's own verdicts on a scheme, by attack."""
    paper = paper_row(entry)
    if paper is None:
        return None
    return {attack: "robust" if robust else "not robust" for attack, robust in paper.robust.items()}


def to_cell(cell: Cell, samples: Sequence[Any]) -> view.Cell:
    base = evaluation_url(cell.evaluation_id, cell.id)
    return view.Cell(
        **_job_fields(cell),
        attack=cell.attack,
        threat_model=cell.threat_model,
        attempt=cell.attempt,
        started_at=cell.started_at,
        finished_at=cell.finished_at,
        result=None if cell.result is None else CellResult.from_json({**cell.result, "evidence": None}),
        samples=[_to_sample(base, sample) for sample in samples],
        links={"curve": f"{base}/curve", "scores": f"{base}/scores.csv"},
    )


def to_utility_job(cell: Cell) -> UtilityJob:
    return UtilityJob(
        **_job_fields(cell),
        result=None if cell.result is None else UtilityResult.from_json(cell.result),
        links={"curve": f"{evaluation_url(cell.evaluation_id, cell.id)}/curve"},
    )


def _job_fields(cell: Cell) -> dict[str, Any]:
    applies = cell.status != Status.NOT_APPLICABLE
    error = None if cell.error is None else JobError.from_json(cell.error)
    return {
        "id": cell.id,
        "scheme": cell.scheme,
        "status": Status(cell.status),
        "progress": round(cell.progress, 4),
        "phase": (cell.phase or None) if cell.status in ACTIVE else None,
        "error": error if applies else None,
        "reason": None if applies or error is None else error.detail,
    }


def is_utility(cell: _Cell) -> bool:
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
    return dict(_installed_versions())


@cache
def _installed_versions() -> dict[str, str | None]:
    try:
        torch = version("torch")
    except PackageNotFoundError:  # the service runs without it
        torch = None
    return {"unveil": __version__, "torch": torch, "python": platform.python_version()}
