"""The rules of evaluations: what may be ordered, cancelled, deleted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import Row, func
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app import broker
from unveil.app.datasets import queries as datasets
from unveil.app.datasets.service import plain_images
from unveil.app.db.ids import new_id
from unveil.app.db.job_states import ENDED, Status
from unveil.app.db.tables import Cell, Dataset, Evaluation, Key, Sample
from unveil.app.dependencies import Services
from unveil.app.errors.problem import Conflict, Gone, Invalid, NotFound
from unveil.app.evaluations import queries, serializers
from unveil.app.evaluations.planning import OrderedKey, Plan, Upload, plan
from unveil.app.evaluations.schemas import CellOut, EvaluationHead, EvaluationOrder, EvaluationOut, UtilityOut
from unveil.app.jobs import event_log
from unveil.app.jobs.dispatch import check_queue, ring
from unveil.app.keys import service as keys_service
from unveil.app.keys.service import Training
from unveil.app.security.principal import Caller
from unveil.models import catalog
from unveil.models.core.profiles import images_taken

_Found = TypeVar("_Found")
_HEADS = 4  # evaluations read at once, of up to a thousand cells each; between, others get their turn


class UnknownEvaluation(NotFound):
    code, title = "unknown_evaluation", "There is no such evaluation"


class UnknownPart(NotFound):
    code, title = "not_found", "The evaluation has no such part"


class UnknownKey(Invalid):
    code, title = "unknown_key", "There is no such key"


class KeyDestroyed(Gone):
    code, title = "key_destroyed", "The key was destroyed"


class KeyNotReady(Conflict):
    code, title = "key_not_ready", "The key is not ready"


class Ended(Conflict):
    code, title = "evaluation_ended", "The evaluation has ended"


class StillRunning(Conflict):
    code, title = "evaluation_running", "The evaluation still runs"


async def plan_of(session: AsyncSession, svc: Services, caller: Caller, order: EvaluationOrder) -> Plan:
    """What an order would make; nothing is written. Raises whatever is wrong with it."""
    images = public = None
    if order.dataset is not None:
        images = await plain_images(session, svc, caller, order.dataset, "/dataset")
    uploads = await _uploads(session, caller, order)
    if order.public_dataset is not None:
        public = await plain_images(session, svc, caller, order.public_dataset, "/public_dataset")
        for other in [images, *uploads.values()]:
            if other and (public.height, public.width) != (other.height, other.width):
                detail = (
                    f"its images are {public.width}x{public.height}, those of {other.name} {other.width}x{other.height}"
                )
                raise Invalid("both data sets must have images of one size", [("/public_dataset", detail)])
    if order.utility and images and not images.labelled:
        detail = "needs a class for every image, and the same classes for training and testing"
        raise Invalid(f"utility cannot be measured on {images.name}", [("/dataset", detail)])
    keys = await _keys(session, caller, order)
    size = (images.height, images.width) if images else None
    planned = plan(order, keys, size, {id: _upload(row) for id, row in uploads.items()})
    for key in planned.keys:
        assert images, "the plan has no key to train without a data set"
        keys_service.check_trainable(key.scheme, images, "/dataset")
    named = {"dataset_name": images, "public_dataset_name": public}
    return replace(planned, names={field: None if of is None else of.name for field, of in named.items()})


async def order(
    session: AsyncSession, svc: Services, caller: Caller, order: EvaluationOrder, evaluation_id: str
) -> EvaluationOut:
    """Write the evaluation and its cells; the caller of this commits, then calls `tell_workers`."""
    planned = await plan_of(session, svc, caller, order)
    wanted = sum(cell.refusal is None for cell in planned.cells) + len(planned.keys)
    await check_queue(session, svc, caller, wanted, "/schemes")

    evaluation = Evaluation(
        id=evaluation_id,
        account_id=caller.account_id,
        name=order.name,
        status=Status.QUEUED,
        settings={
            **order.model_dump(mode="json"),
            **images_taken(order.profile),
            **planned.names,
            "schemes": planned.schemes,
            "attacks": planned.attacks,
        },
        version=0,
    )
    session.add(evaluation)
    await session.flush()
    for key in planned.keys:
        training = Training(order.profile, str(order.dataset), order.seed)
        await keys_service.train(session, svc, caller, key.scheme, training, key.id, evaluation_id)
    session.add_all(_cell(evaluation_id, position, planned) for position in range(len(planned.cells)))
    await session.flush()
    await session.run_sync(
        lambda sync: event_log.record(
            sync, evaluation, "status", {"status": Status.QUEUED.value, **event_log.overview(sync, evaluation_id)}
        )
    )
    await session.refresh(evaluation)
    return await show(session, evaluation)


def _cell(evaluation_id: str, position: int, planned: Plan) -> Cell:
    cell = planned.cells[position]
    refused = cell.refusal is not None
    trained = cell.scheme.get("key_id") in [key.id for key in planned.keys]
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
        # Sent right after the commit; should that fail, the sweeper finds too few messages for the rows. One whose key
        # is trained first is sent when that is there.
        sent_at=None if refused or trained else func.clock_timestamp(),
    )


async def tell_workers(svc: Services, ordered: EvaluationOut) -> None:
    """After the commit: of the keys first, and of the cells that wait for none, quick ones before any that train."""
    trained = [key.id for key in ordered.keys]
    cells = sorted(ordered.cells, key=lambda cell: catalog.takes_long(cell.attack["name"]))
    jobs: list[CellOut | UtilityOut] = [*cells, *ordered.utility]
    ids = [job.id for job in jobs if job.status == Status.QUEUED and job.scheme.get("key_id") not in trained]
    await ring(svc, broker.TRAIN_KEY, *trained)
    await ring(svc, broker.RUN_CELL, *ids)


def _upload(row: Dataset) -> Upload:
    return Upload(row.id, row.name, row.has_originals, labelled=len(row.classes) > 1)


async def _uploads(session: AsyncSession, caller: Caller, order: EvaluationOrder) -> dict[str, Dataset]:
    """The caller's uploads of protected images that the order names; one it cannot name is left out."""
    named = {entry.dataset for entry in order.schemes if entry.name == catalog.EXTERNAL and entry.dataset}
    rows = [await datasets.kept(session, caller.account_id, id) for id in sorted(named)]
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
            raise KeyNotReady(f"{key.id} is {key.status}", [(pointer, keys_service.advice(key))])
        size = None if key.height is None or key.width is None else (key.height, key.width)
        keys[key.id] = OrderedKey(key.id, key.scheme, key.params, size)
    return keys


async def find(session: AsyncSession, caller: Caller, id: str) -> Evaluation:
    """Raises UnknownEvaluation."""
    return _known(id, await queries.evaluation(session, caller.account_id, id))


async def standing(svc: Services, caller: Caller, id: str) -> Row[Any]:
    """Its version and status. Raises UnknownEvaluation."""
    return _known(id, await queries.standing_of(svc.lookups, caller.account_id, id))


def _known(id: str, found: _Found | None) -> _Found:
    if found is None:
        raise UnknownEvaluation(f"there is no evaluation {id!r}; see GET /evaluations")
    return found


async def show(session: AsyncSession, evaluation: Evaluation) -> EvaluationOut:
    """Everything but images and curves."""
    ids = [evaluation.id]
    cells, keys = await queries.cells(session, ids), await queries.trained_keys(session, ids)
    return serializers.full(evaluation, cells, keys, await queries.sample_heads(session, evaluation.id))


async def cancel(session: AsyncSession, caller: Caller, id: str) -> Evaluation:
    """Ask for the end; asking again is fine. Raises UnknownEvaluation, Ended."""
    await find(session, caller, id)
    locked = await session.run_sync(event_log.lock, id)
    if locked is None:
        raise UnknownEvaluation(f"there is no evaluation {id!r}; see GET /evaluations")
    if locked.status in ENDED - {Status.CANCELLED}:  # who lost the first answer asks a cancelled one again
        raise Ended(f"it {locked.status} already; there is nothing to cancel")
    await session.run_sync(event_log.cancel, locked)
    await session.commit()
    return await find(session, caller, id)


async def delete(session: AsyncSession, caller: Caller, id: str) -> None:
    """Raises UnknownEvaluation, StillRunning."""
    await find(session, caller, id)
    locked = await session.run_sync(event_log.lock, id)
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


async def heads(session: AsyncSession, evaluations: Sequence[Evaluation]) -> dict[str, EvaluationHead]:
    """Several evaluations as a list shows them, by id."""
    keys = defaultdict[str | None, list[Key]](list)
    for key in await queries.trained_keys(session, [evaluation.id for evaluation in evaluations]):
        keys[key.evaluation_id].append(key)
    made = dict[str, EvaluationHead]()
    for first in range(0, len(evaluations), _HEADS):
        some = evaluations[first : first + _HEADS]
        cells = defaultdict[str, list[Row[Any]]](list)
        for cell in await queries.cell_heads(session, [evaluation.id for evaluation in some]):
            cells[cell.evaluation_id].append(cell)
        made |= {each.id: serializers.head(each, cells[each.id], keys[each.id]) for each in some}
    return made
