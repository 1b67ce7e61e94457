"""The rules of evaluations: which may be created, cancelled, deleted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import Row, func
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.datasets import queries as datasets
from unveil.app.datasets.service import resolve_plain_dataset, to_info
from unveil.app.db.ids import new_id
from unveil.app.db.job_states import TERMINAL, Status
from unveil.app.db.tables import Cell, Evaluation, Key
from unveil.app.dependencies import AppState
from unveil.app.errors.problem import (
    EvaluationEnded,
    EvaluationRunning,
    Invalid,
    KeyDestroyed,
    KeyNotReady,
    NotFound,
    UnknownEvaluation,
    UnknownKey,
)
from unveil.app.evaluations import queries, serializers
from unveil.app.evaluations.cost import estimate_cost
from unveil.app.evaluations.planning import EvaluationPlan, KeyRef, plan_evaluation
from unveil.app.evaluations.schemas import (
    CostQuotaOut,
    EvaluationCreate,
    EvaluationEstimate,
    EvaluationOut,
    EvaluationSummary,
    EvaluationUpdate,
)
from unveil.app.evaluations.verdicts import load_verdicts
from unveil.app.jobs import cancellation, event_log
from unveil.app.jobs.dispatch import dispatch, enforce_quotas, load_cost_quota
from unveil.app.keys import queries as keys_queries
from unveil.app.keys import service as keys_service
from unveil.app.keys.service import TrainingRequest
from unveil.app.report import evaluation as view
from unveil.app.security.principal import Principal
from unveil.models import catalog
from unveil.models.catalog import DatasetInfo
from unveil.models.core.profiles import profile_image_counts

_Found = TypeVar("_Found")
_EVALUATIONS_PER_READ = 4  # each may have thousands of cells; other requests run between the reads


async def plan(
    session: AsyncSession, app_state: AppState, principal: Principal, body: EvaluationCreate
) -> EvaluationPlan:
    """The cells that a request would create; writes nothing. Raises the problem of an invalid request."""
    images = public = None
    if body.dataset is not None:
        images = await resolve_plain_dataset(session, app_state, principal, body.dataset, "/dataset")
    external = [entry.dataset for entry in body.schemes if entry.name == catalog.EXTERNAL]
    uploads = await _load_uploads(session, principal, "protected", external)
    submitted = await _load_uploads(
        session, principal, "reconstructed", [str(entry.settings.get("dataset")) for entry in body.attacks]
    )
    if body.public_dataset is not None:
        public = await resolve_plain_dataset(session, app_state, principal, body.public_dataset, "/public_dataset")
        for other in [images, *uploads.values()]:
            if other and public.size != other.size:
                detail = (
                    f"its images are {public.width}x{public.height}, those of {other.name} {other.width}x{other.height}"
                )
                raise Invalid("both datasets must have images of the same size", [("/public_dataset", detail)])
    if body.utility and images and not images.labelled:
        detail = "utility needs a class for every image, and the same classes for training and testing"
        raise Invalid(f"utility cannot be measured on {images.name}", [("/dataset", detail)])
    keys = await _load_key_refs(session, principal, body)
    planned = plan_evaluation(body, keys, images.size if images else None, uploads, submitted)
    for key in planned.keys:
        assert images, "the plan has no key to train without a dataset"
        keys_service.require_trainable(key.scheme, images, "/dataset")
    datasets_by_field = {"dataset_name": None if _is_external_only(body) else images, "public_dataset_name": public}
    images_of = dict[str | None, DatasetInfo](uploads.items())
    if images:
        images_of[None] = images
    return replace(
        planned,
        dataset_names={
            field: None if dataset is None else dataset.name for field, dataset in datasets_by_field.items()
        },
        cost=estimate_cost(
            planned.cells, planned.keys, images_of, body.profile, body.keys, public.train if public else None
        ),
    )


async def estimate(
    session: AsyncSession, app_state: AppState, principal: Principal, body: EvaluationCreate
) -> EvaluationEstimate:
    """Cost of a request and quota of the account; writes nothing. Raises the problem of an invalid request."""
    planned = await plan(session, app_state, principal, body)
    quota = await load_cost_quota(session, app_state.settings, principal.account_id)
    running = sum(cell.not_applicable_reason is None for cell in planned.cells)
    return EvaluationEstimate(
        cells=running,
        not_applicable=len(planned.cells) - running,
        trained_keys=len(planned.keys),
        estimated_core_hours=round(planned.cost.core_seconds / 3600, 6),
        quota=CostQuotaOut(limit=quota.limit, used=quota.used, reserved=quota.reserved, left=quota.left),
    )


async def create(
    session: AsyncSession, app_state: AppState, principal: Principal, body: EvaluationCreate, evaluation_id: str
) -> EvaluationOut:
    """Write the evaluation and its cells; the caller commits, then calls `dispatch_jobs`."""
    planned = await plan(session, app_state, principal, body)
    new_jobs = sum(cell.not_applicable_reason is None for cell in planned.cells) + len(planned.keys)
    await enforce_quotas(session, app_state, principal, new_jobs, planned.cost.core_seconds, "/schemes")

    evaluation = Evaluation(
        id=evaluation_id,
        account_id=principal.account_id,
        name=body.name,
        status=Status.QUEUED,
        settings={
            **body.model_dump(mode="json"),
            "dataset": None if _is_external_only(body) else body.dataset,
            **profile_image_counts(body.profile),
            **planned.dataset_names,
            "schemes": planned.schemes,
            "attacks": planned.attacks,
        },
        event_seq=0,
    )
    session.add(evaluation)
    await session.flush()
    for key in planned.keys:
        training = TrainingRequest(body.profile, str(body.dataset), body.seed)
        await keys_service.enqueue_training(
            session,
            app_state,
            principal,
            key.scheme,
            training,
            key.id,
            planned.cost.keys[key.id],
            evaluation_id,
        )
    session.add_all(_make_cell(evaluation_id, position, planned) for position in range(len(planned.cells)))
    await session.flush()
    await session.run_sync(
        lambda sync: event_log.append_events(
            sync,
            evaluation,
            "status",
            {"status": Status.QUEUED.value, **event_log.progress_summary(sync, evaluation_id)},
        )
    )
    await session.refresh(evaluation)
    return await get_detail(session, evaluation)


def _is_external_only(body: EvaluationCreate) -> bool:
    """Uploads bring their own images, so an evaluation of nothing else uses no dataset."""
    return all(entry.name == catalog.EXTERNAL for entry in body.schemes)


def _make_cell(evaluation_id: str, position: int, planned: EvaluationPlan) -> Cell:
    cell = planned.cells[position]
    is_not_applicable = cell.not_applicable_reason is not None
    return Cell(
        id=new_id("cell"),
        evaluation_id=evaluation_id,
        position=position,
        scheme=cell.scheme,
        attack=cell.attack,
        threat_model=cell.threat_model,
        requested=cell.requested,
        status=Status.NOT_APPLICABLE if is_not_applicable else Status.QUEUED,
        estimated_core_seconds=planned.cost.cells[position],
        error={"code": "not_applicable", "detail": cell.not_applicable_reason} if is_not_applicable else None,
        finished_at=func.clock_timestamp() if is_not_applicable else None,
    )


async def dispatch_jobs(app_state: AppState, evaluation: EvaluationOut) -> None:
    """Call after the commit. Cells that wait for a key are dispatched when its training ends."""
    key_ids = {key.id for key in evaluation.keys}
    jobs: list[view.Job] = [*evaluation.cells, *evaluation.utility]
    ready = sum(job.status == Status.QUEUED and job.scheme.get("key_id") not in key_ids for job in jobs)
    await dispatch(app_state, len(key_ids) + ready)


async def _load_uploads(
    session: AsyncSession, principal: Principal, kind: str, ids: Sequence[str | None]
) -> dict[str, DatasetInfo]:
    """The account's uploads of a kind, by id; others are left out."""
    rows = [await datasets.get_for_share(session, principal.account_id, id) for id in sorted(set(filter(None, ids)))]
    return {row.id: to_info(row) for row in rows if row is not None and row.kind == kind}


async def _load_key_refs(session: AsyncSession, principal: Principal, body: EvaluationCreate) -> dict[str, KeyRef]:
    keys = {}
    for i, entry in enumerate(body.schemes):
        if entry.key_id is None:
            continue
        pointer = f"/schemes/{i}/key_id"
        key = await keys_queries.get_for_share(session, principal.account_id, entry.key_id)
        if key is None:
            errors = [(pointer, "no such key; see GET /keys")]
            raise UnknownKey(f"there is no key {entry.key_id!r}", errors, status=422)
        if key.destroyed_at is not None:
            raise KeyDestroyed(f"{key.id} was destroyed", [(pointer, "destroyed; use another key")])
        if key.status != Status.SUCCEEDED:
            raise KeyNotReady(f"{key.id} is {key.status}", [(pointer, keys_service.retry_hint(key))])
        size = None if key.height is None or key.width is None else (key.height, key.width)
        keys[key.id] = KeyRef(key.id, key.scheme, key.params, size)
    return keys


async def get(session: AsyncSession, principal: Principal, id: str) -> Evaluation:
    """Raises UnknownEvaluation."""
    return _require_found(id, await queries.get_evaluation(session, principal.account_id, id))


async def get_version_and_status(app_state: AppState, principal: Principal, id: str) -> Row[Any]:
    """(id, account_id, event_seq, edit_count, status). Raises UnknownEvaluation."""
    return _require_found(id, await queries.get_version_and_status(app_state.loader, principal.account_id, id))


def _require_found(id: str, value: _Found | None) -> _Found:
    if value is None:
        raise UnknownEvaluation(f"there is no evaluation {id!r}; see GET /evaluations")
    return value


async def get_detail(session: AsyncSession, evaluation: Evaluation) -> EvaluationOut:
    """Everything except images and curves."""
    ids = [evaluation.id]
    cells, keys = await queries.list_cells(session, ids), await queries.list_trained_keys(session, ids)
    samples = await queries.list_sample_summaries(session, evaluation.id)
    worker_live = await queries.is_attack_worker_live(session)
    return serializers.to_detail(evaluation, cells, keys, samples, worker_live=worker_live)


async def get_view(session: AsyncSession, evaluation: Evaluation) -> view.Evaluation:
    """The same for report and dashboard."""
    return serializers.to_view(await get_detail(session, evaluation))


async def update(session: AsyncSession, principal: Principal, id: str, body: EvaluationUpdate) -> Evaluation:
    """Change the name, the tags or the notes. Raises UnknownEvaluation."""
    await get(session, principal, id)
    locked = _require_found(id, await session.run_sync(event_log.lock_evaluation, id))
    changes = body.model_dump(exclude_none=True)
    for field, value in changes.items():
        setattr(locked, field, value)
    if "name" in changes:  # the settings create the same evaluation again
        locked.settings = {**locked.settings, "name": locked.name}
    locked.edit_count += 1
    await session.commit()
    return await get(session, principal, id)


async def cancel(session: AsyncSession, principal: Principal, id: str) -> Evaluation:
    """Request cancellation; repeating the request is fine. Raises UnknownEvaluation, EvaluationEnded."""
    await get(session, principal, id)
    locked = _require_found(id, await session.run_sync(event_log.lock_evaluation, id))
    if locked.status in TERMINAL - {Status.CANCELLED}:  # a client retries after losing the first answer
        raise EvaluationEnded(f"evaluation {id} has already {locked.status}; there is nothing to cancel")
    await session.run_sync(cancellation.cancel_evaluation, locked)
    await session.commit()
    return await get(session, principal, id)


async def delete(session: AsyncSession, principal: Principal, id: str) -> None:
    """Raises UnknownEvaluation, EvaluationRunning."""
    await get(session, principal, id)
    locked = _require_found(id, await session.run_sync(event_log.lock_evaluation, id))
    if locked.status not in TERMINAL:
        raise EvaluationRunning(f"evaluation {id} is {locked.status}; cancel it first, or wait")
    await session.delete(locked)
    await session.commit()


async def get_cell(session: AsyncSession, principal: Principal, id: str, cell_id: str) -> Cell:
    """Raises NotFound."""
    cell = await queries.get_cell(session, principal.account_id, id, cell_id)
    if cell is None:
        raise NotFound(f"there is no cell {cell_id!r} of evaluation {id!r}")
    return cell


async def get_cell_view(session: AsyncSession, principal: Principal, id: str, cell_id: str) -> view.Cell:
    """The cell with its result and samples. Raises UnknownEvaluation, NotFound."""
    evaluation = await get_view(session, await get(session, principal, id))
    return find_cell(evaluation, cell_id)


def find_cell(evaluation: view.Evaluation, cell_id: str) -> view.Cell:
    """Raises NotFound."""
    for cell in evaluation.cells:
        if cell.id == cell_id:
            return cell
    raise NotFound(f"there is no cell {cell_id!r} of evaluation {evaluation.id}")


async def list_summaries(session: AsyncSession, evaluations: Sequence[Evaluation]) -> dict[str, EvaluationSummary]:
    """Summaries of several evaluations, by id."""
    keys = defaultdict[str | None, list[Key]](list)
    for key in await queries.list_trained_keys(session, [evaluation.id for evaluation in evaluations]):
        keys[key.evaluation_id].append(key)
    summaries = dict[str, EvaluationSummary]()
    worker_live = await queries.is_attack_worker_live(session)
    for first in range(0, len(evaluations), _EVALUATIONS_PER_READ):
        batch = evaluations[first : first + _EVALUATIONS_PER_READ]
        cells = defaultdict[str, list[Row[Any]]](list)
        without_verdicts = [evaluation.id for evaluation in batch if load_verdicts(evaluation) is None]
        for cell in await queries.list_cell_summaries(
            session, [each.id for each in batch], with_results=without_verdicts
        ):
            cells[cell.evaluation_id].append(cell)
        summaries |= {
            each.id: serializers.to_summary(each, cells[each.id], keys[each.id], worker_live=worker_live)
            for each in batch
        }
    await session.commit()  # verdicts that were computed for the first time
    return summaries
