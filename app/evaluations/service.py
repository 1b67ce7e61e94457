"""The rules of evaluations: what may be ordered, cancelled, deleted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import redis.exceptions
from kombu.exceptions import OperationalError as BrokerAway
from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from app import queue
from app.core.auth import Caller
from app.core.ids import new_id
from app.core.problems import Conflict, Gone, Invalid, NotFound, TooMany
from app.core.services import Services
from app.core.states import ENDED, Status
from app.db import journal
from app.db.tables import Cell, Dataset, Evaluation, Sample
from app.evaluations import queries, views
from app.evaluations.order import OrderedKey, Plan, Upload, plan
from app.evaluations.schemas import EvaluationOrder, EvaluationOut
from models import catalog

log = logging.getLogger(__name__)


class UnknownEvaluation(NotFound):
    code, title = "unknown_evaluation", "There is no such evaluation"


class UnknownPart(NotFound):
    code, title = "not_found", "The evaluation has no such part"


class UnknownDataset(Invalid):
    code, title = "unknown_dataset", "There is no such data set"


class UnknownKey(Invalid):
    code, title = "unknown_key", "There is no such key"


class KeyDestroyed(Gone):
    code, title = "key_destroyed", "The key was destroyed"


class KeyNotReady(Conflict):
    code, title = "key_not_ready", "The key is not ready"


class QueueFull(TooMany):
    code, title = "queue_full", "The account has too many cells waiting"


class Ended(Conflict):
    code, title = "evaluation_ended", "The evaluation has ended"


class StillRunning(Conflict):
    code, title = "evaluation_running", "The evaluation still runs"


@dataclass(frozen=True)
class Images:
    """What an order needs to know of a data set."""

    name: str
    height: int
    width: int


async def order(
    session: AsyncSession, svc: Services, caller: Caller, order: EvaluationOrder, evaluation_id: str
) -> EvaluationOut:
    """Write the evaluation and its cells; the caller of this commits, then calls `ring`."""
    images = order.dataset and await _dataset(session, svc, caller, order.dataset, "/dataset")
    uploads = await _uploads(session, caller, order)
    if order.public_dataset is not None:
        public = await _dataset(session, svc, caller, order.public_dataset, "/public_dataset")
        for other in [images, *uploads.values()]:
            if other and (public.height, public.width) != (other.height, other.width):
                detail = (
                    f"its images are {public.width}x{public.height}, those of {other.name} {other.width}x{other.height}"
                )
                raise Invalid("both data sets must have images of one size", [("/public_dataset", detail)])
    if order.utility:
        raise Invalid("utility cannot be measured yet", [("/utility", "not measured yet; leave it false")])
    keys = await _keys(session, caller, order)
    size = (images.height, images.width) if images else None
    planned = plan(order, keys, size, {id: Upload(id, row.has_originals) for id, row in uploads.items()})
    await _check_queue(session, svc, caller, planned)

    evaluation = Evaluation(
        id=evaluation_id,
        account_id=caller.account_id,
        name=order.name,
        status=Status.QUEUED,
        settings={**order.model_dump(mode="json"), "schemes": planned.schemes, "attacks": planned.attacks},
        version=0,
    )
    session.add(evaluation)
    await session.flush()
    session.add_all(_cell(evaluation_id, position, planned) for position in range(len(planned.cells)))
    await session.flush()
    await session.run_sync(
        lambda sync: journal.record(
            sync, evaluation, "status", {"status": Status.QUEUED.value, **journal.overview(sync, evaluation_id)}
        )
    )
    await session.refresh(evaluation)
    return views.full(evaluation, await queries.cells(session, [evaluation_id]), [])


def _cell(evaluation_id: str, position: int, planned: Plan) -> Cell:
    cell = planned.cells[position]
    refused = cell.refusal is not None
    return Cell(
        id=new_id("cell"),
        evaluation_id=evaluation_id,
        position=position,
        scheme=cell.scheme,
        attack=cell.attack,
        threat_model=cell.threat_model,
        status=Status.NOT_APPLICABLE if refused else Status.QUEUED,
        error={"code": "not_applicable", "detail": cell.refusal} if refused else None,
        finished_at=func.clock_timestamp() if refused else None,
        # Sent right after the commit; should that fail, the sweeper finds too few messages for the rows.
        sent_at=None if refused else func.clock_timestamp(),
    )


async def ring(svc: Services, ordered: EvaluationOut) -> None:
    """Tell the workers. A broker that is away loses nothing: the sweeper rings again."""
    ids = [cell.id for cell in ordered.cells if cell.status == Status.QUEUED]
    try:
        await asyncio.to_thread(queue.ring, svc.celery, queue.RUN_CELL, *ids)
    except (BrokerAway, redis.exceptions.RedisError, OSError) as away:
        log.warning("evaluation %s waits for the sweeper: %s", ordered.id, away)


async def _dataset(session: AsyncSession, svc: Services, caller: Caller, name: str, pointer: str) -> Images:
    if name.startswith("ds_"):
        row = await queries.dataset(session, caller.account_id, name)
        if row is None:
            raise UnknownDataset(f"there is no data set {name!r}", [(pointer, "no such upload; see GET /datasets")])
        if row.kind != "plain":
            raise Invalid(
                f"{name} holds protected images", [(pointer, "plain images are needed to protect and to score against")]
            )
        return Images(row.name, row.height, row.width)
    known = await asyncio.to_thread(catalog.builtin_datasets, svc.settings.data_dir)
    for info in known:
        if info.name == name:
            return Images(info.name, info.height, info.width)
    names = ", ".join(info.name for info in known)
    raise UnknownDataset(f"there is no data set {name!r}", [(pointer, f"known: {names}, and ids of your uploads")])


async def _uploads(session: AsyncSession, caller: Caller, order: EvaluationOrder) -> dict[str, Dataset]:
    """The caller's uploads of protected images that the order names; one it cannot name is left out."""
    named = {entry.dataset for entry in order.schemes if entry.name == catalog.EXTERNAL and entry.dataset}
    rows = [await queries.dataset(session, caller.account_id, id) for id in sorted(named)]
    return {row.id: row for row in rows if row is not None and row.kind == "protected"}


async def _keys(session: AsyncSession, caller: Caller, order: EvaluationOrder) -> dict[str, OrderedKey]:
    keys = {}
    for i, entry in enumerate(order.schemes):
        if entry.key_id is None:
            continue
        pointer = f"/schemes/{i}/key_id"
        key = await queries.key(session, caller.account_id, entry.key_id)
        if key is None:
            raise UnknownKey(f"there is no key {entry.key_id!r}", [(pointer, "no such key; see GET /keys")])
        if key.destroyed_at is not None:
            raise KeyDestroyed(f"{key.id} was destroyed", [(pointer, "destroyed; use another key")])
        if key.status != Status.SUCCEEDED:
            raise KeyNotReady(f"{key.id} is {key.status}", [(pointer, "wait until the key is ready")])
        size = None if key.height is None or key.width is None else (key.height, key.width)
        keys[key.id] = OrderedKey(key.id, key.scheme, key.params, size)
    return keys


async def _check_queue(session: AsyncSession, svc: Services, caller: Caller, planned: Plan) -> None:
    wanted = sum(cell.refusal is None for cell in planned.cells)
    limit = svc.settings.max_queued_cells
    if wanted > limit:
        raise Invalid(
            f"the order makes {wanted} cells; an account may have {limit} waiting",
            [("/schemes", "order fewer at once")],
        )
    active = await queries.count_active_cells(session, caller.account_id)
    if active + wanted > limit:
        raise QueueFull(
            f"{active} cells wait or run, {wanted} more would pass the limit of {limit}; wait or cancel some",
            headers={"Retry-After": "30"},
        )


async def find(session: AsyncSession, caller: Caller, id: str) -> Evaluation:
    """Raises UnknownEvaluation."""
    evaluation = await queries.evaluation(session, caller.account_id, id)
    if evaluation is None:
        raise UnknownEvaluation(f"there is no evaluation {id!r}; see GET /evaluations")
    return evaluation


async def show(session: AsyncSession, evaluation: Evaluation) -> EvaluationOut:
    cells = await queries.cells(session, [evaluation.id])
    return views.full(evaluation, cells, await queries.sample_heads(session, evaluation.id))


async def cancel(session: AsyncSession, caller: Caller, id: str) -> Evaluation:
    """Ask for the end; asking again is fine. Raises UnknownEvaluation, Ended."""
    await find(session, caller, id)
    locked = await session.run_sync(journal.lock, id)
    if locked is None:
        raise UnknownEvaluation(f"there is no evaluation {id!r}; see GET /evaluations")
    if locked.status in ENDED:
        raise Ended(f"it {locked.status} already; there is nothing to cancel")
    await session.run_sync(journal.cancel, locked)
    await session.commit()
    return await find(session, caller, id)


async def delete(session: AsyncSession, caller: Caller, id: str) -> None:
    """Raises UnknownEvaluation, StillRunning."""
    await find(session, caller, id)
    locked = await session.run_sync(journal.lock, id)
    if locked is None:
        raise UnknownEvaluation(f"there is no evaluation {id!r}; see GET /evaluations")
    if locked.status not in ENDED:
        raise StillRunning(f"it is {locked.status}; cancel it first, or wait")
    await session.delete(locked)
    await session.commit()


async def find_cell(session: AsyncSession, caller: Caller, id: str, cell_id: str) -> Cell:
    """Raises UnknownPart."""
    cell = await queries.cell(session, caller.account_id, id, cell_id)
    if cell is None:
        raise UnknownPart(f"there is no cell {cell_id!r} of evaluation {id!r}")
    return cell


async def find_sample(session: AsyncSession, caller: Caller, id: str, cell_id: str, index: int) -> Sample:
    """Raises UnknownPart."""
    cell = await find_cell(session, caller, id, cell_id)
    sample = await queries.sample(session, cell.id, index)
    if sample is None:
        raise UnknownPart(f"cell {cell_id} stored no sample {index}")
    return sample


async def listed(session: AsyncSession, evaluations: Sequence[Evaluation]) -> dict[str, list[Cell]]:
    """The cells of several evaluations, by evaluation."""
    by_evaluation: dict[str, list[Cell]] = {evaluation.id: [] for evaluation in evaluations}
    for cell in await queries.cells(session, list(by_evaluation)):
        by_evaluation[cell.evaluation_id].append(cell)
    return by_evaluation
