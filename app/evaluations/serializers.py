"""Rows as a caller sees them: progress, verdicts, links. Pure functions of rows; the report builds on them too."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sqlalchemy import Row

from unveil.app.db.job_states import ACTIVE, COMPLETED, Status
from unveil.app.db.tables import Cell, Evaluation, Key
from unveil.app.evaluations.schemas import (
    CellOut,
    ErrorOut,
    EvaluationOut,
    EvaluationSummary,
    ProgressOut,
    ResultOut,
    SampleOut,
    UtilityOut,
    UtilityResultOut,
    VerdictOut,
)
from unveil.app.jobs import eta, event_log
from unveil.app.keys import service as keys_service
from unveil.models import catalog
from unveil.models.core.version import __version__

_Cell = Cell | Row[Any]  # of `queries.cells` or of `queries.cell_heads`


def to_summary(evaluation: Evaluation, cells: Sequence[Row[Any]], keys: Sequence[Key]) -> EvaluationSummary:
    """`cells` in their order; `keys`: those trained for it."""
    return EvaluationSummary(**_summary_fields(evaluation, cells, keys))


def to_detail(
    evaluation: Evaluation, cells: Sequence[Cell], keys: Sequence[Key], samples: Sequence[Row[Any]]
) -> EvaluationOut:
    by_cell: dict[str, list[Row[Any]]] = {}
    for sample in samples:
        by_cell.setdefault(sample.cell_id, []).append(sample)
    return EvaluationOut(
        **_summary_fields(evaluation, cells, keys),
        keys=[keys_service.to_key_out(key) for key in keys],
        cells=[to_cell_out(cell, by_cell.get(cell.id, [])) for cell in cells if not is_utility(cell)],
        utility=[to_utility_out(cell) for cell in cells if is_utility(cell)],
        settings=evaluation.settings,
        versions=_worker_versions(cells),
    )


def _summary_fields(evaluation: Evaluation, cells: Sequence[_Cell], keys: Sequence[Key]) -> dict[str, Any]:
    base = evaluation_url(evaluation.id)
    return {
        "id": evaluation.id,
        "name": evaluation.name,
        "status": evaluation.status,
        "created_at": evaluation.created_at,
        "started_at": evaluation.started_at,
        "finished_at": evaluation.finished_at,
        "progress": build_progress(evaluation, cells, keys, datetime.now(UTC)),
        "verdicts": build_verdicts(cells),
        "links": {
            "self": base,
            "cancel": f"{base}/cancel",
            "events": f"{base}/events",
            "report": f"{base}/report.html",
        },
    }


def evaluation_url(evaluation_id: str, cell_id: str | None = None) -> str:
    return f"/evaluations/{evaluation_id}" + (f"/cells/{cell_id}" if cell_id else "")


def build_progress(evaluation: Evaluation, cells: Sequence[_Cell], keys: Sequence[Key], now: datetime) -> ProgressOut:
    """Done and total count cells; the fraction and the time left count the training of keys too."""
    jobs = event_log.job_progress(cells, keys)
    remaining_s = eta.estimate_remaining_seconds(jobs, now) if evaluation.status == Status.RUNNING else None
    return ProgressOut(
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


def build_verdicts(cells: Sequence[_Cell]) -> list[VerdictOut]:
    """One a scheme entry, in the order of the evaluation: the worst case over its attacks."""
    by_scheme: dict[str, list[_Cell]] = {}
    for cell in cells:
        if not is_utility(cell):
            by_scheme.setdefault(repr(sorted(cell.scheme.items())), []).append(cell)
    return [
        VerdictOut(
            scheme=own[0].scheme,
            paper=paper_verdicts(own[0].scheme),
            **catalog.scheme_verdict(
                [{"attack": cell.attack, "status": cell.status, "result": cell.result} for cell in own]
            ),
        )
        for own in by_scheme.values()
    ]


def paper_verdicts(entry: Mapping[str, Any]) -> dict[str, str] | None:
    """The paper's own words on a scheme, by attack."""
    paper = get_paper_row(entry)
    return (
        None
        if paper is None
        else {attack: "robust" if robust else "not robust" for attack, robust in paper.robust.items()}
    )


def get_paper_row(entry: Mapping[str, Any]) -> catalog.PaperRow | None:
    """None also of uploads, and of what only another version knows."""
    try:
        return catalog.make_scheme(entry["name"], {k: v for k, v in entry.items() if k not in ("name", "key_id")}).paper
    except (catalog.UnknownName, catalog.ParameterError):
        return None


def to_cell_out(cell: Cell, samples: Sequence[Row[Any]]) -> CellOut:
    base = evaluation_url(cell.evaluation_id, cell.id)
    applies = cell.status != Status.NOT_APPLICABLE
    return CellOut(
        id=cell.id,
        scheme=cell.scheme,
        attack=cell.attack,
        threat_model=cell.threat_model,
        status=Status(cell.status),
        progress=round(cell.progress, 4),
        phase=(cell.phase or None) if cell.status in ACTIVE else None,
        attempt=cell.attempt,
        started_at=cell.started_at,
        finished_at=cell.finished_at,
        error=ErrorOut(**cell.error) if cell.error and applies else None,
        reason=None if applies or not cell.error else cell.error["detail"],
        result=None if cell.result is None else ResultOut(**cell.result),
        samples=[_to_sample_out(base, sample) for sample in samples],
        links={"curve": f"{base}/curve", "scores": f"{base}/scores.csv"},
    )


def is_utility(cell: _Cell) -> bool:
    """Whether the job of a row is no attack, but the measurement of a scheme's utility."""
    return bool(cell.attack["name"] == catalog.UTILITY)


def to_utility_out(cell: Cell) -> UtilityOut:
    applies = cell.status != Status.NOT_APPLICABLE
    return UtilityOut(
        id=cell.id,
        scheme=cell.scheme,
        status=Status(cell.status),
        progress=round(cell.progress, 4),
        phase=(cell.phase or None) if cell.status in ACTIVE else None,
        error=ErrorOut(**cell.error) if cell.error and applies else None,
        reason=None if applies or not cell.error else cell.error["detail"],
        result=None if cell.result is None else UtilityResultOut(**cell.result),
        links={"curve": f"{evaluation_url(cell.evaluation_id, cell.id)}/curve"},
    )


def _to_sample_out(base: str, sample: Row[Any]) -> SampleOut:
    sample_url = f"{base}/samples/{sample.index}"
    return SampleOut(
        index=sample.index,
        ssim=sample.ssim,
        plain=f"{sample_url}/plain.png" if sample.has_plain else None,
        protected=f"{sample_url}/protected.png",
        reconstructed=f"{sample_url}/reconstructed.png",
    )


def _worker_versions(cells: Sequence[Cell]) -> dict[str, str | None]:
    """Of the worker that computed the first finished cell; before, of this installation."""
    for cell in cells:
        if cell.result and cell.result.get("versions"):
            return dict(cell.result["versions"])
    return dict(_installed_versions())


@cache
def _installed_versions() -> dict[str, str | None]:
    try:
        torch = version("torch")
    except PackageNotFoundError:  # the service runs without it
        torch = None
    return {"unveil": __version__, "torch": torch, "python": platform.python_version()}
