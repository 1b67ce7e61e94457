"""Datasets: the built-in ones, the operator's folders, and uploads that a worker unpacks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.broker import NoWorker, Parcel, ask
from unveil.app.datasets import queries
from unveil.app.datasets.schemas import DatasetOut, UploadOrder
from unveil.app.db.ids import new_id
from unveil.app.db.tables import Dataset
from unveil.app.dependencies import Services
from unveil.app.errors.problem import Conflict, Invalid, NotFound, Problem, TooLarge, Unavailable
from unveil.app.http.pagination import Page, PageRequest, page
from unveil.app.observability import failpoints
from unveil.app.observability.logging import request_id
from unveil.app.security.principal import Caller
from unveil.app.settings import Settings
from unveil.app.storage import FAILURES, StorageFailed
from unveil.models import catalog

# Cursors are ids; a built-in set has none, so its place in the list stands in for one.
_PLACE = "builtin_{:032x}"


class UnknownDataset(NotFound):
    code, title = "unknown_dataset", "No dataset has this id"


class NoPlainImages(Invalid):
    """As the field of an order that names a dataset."""

    code, title = "unknown_dataset", "There is no such data set"


class BuiltIn(Conflict):
    code, title = "dataset_built_in", "A built-in dataset cannot be deleted"


class InUse(Conflict):
    code, title = "dataset_in_use", "An unfinished evaluation or training needs this dataset"


class OriginalsNotTaken(Invalid):
    code, title = "originals_not_taken", "Only a protected dataset has originals"


class BadArchive(Invalid):
    code, title = "bad_archive", "The archive cannot be used"


class ArchiveTooLarge(TooLarge):
    code, title = "archive_too_large", "The archive is above a limit"


class NotUnpacked(Unavailable):
    code, title = "no_worker", "No worker has unpacked the archive in time"


_REFUSALS = {problem.code: problem for problem in (BadArchive, ArchiveTooLarge)}


async def list_page(session: AsyncSession, caller: Caller, settings: Settings, paging: PageRequest) -> Page[DatasetOut]:
    """Built-in sets and folders, then uploads, newest first."""
    rows: list[tuple[str, DatasetOut]] = []
    after = paging.after
    if after is None or after.startswith("builtin_"):
        places = [(_PLACE.format(place), dataset) for place, dataset in enumerate(await _built_in(settings))]
        rows = [row for row in places if after is None or row[0] > after][: paging.limit + 1]
        after = None
    missing = paging.limit + 1 - len(rows)
    if missing:
        uploads = await queries.newest_first(session, caller.account_id, after, missing)
        rows += [(upload.id, DatasetOut.model_validate(upload)) for upload in uploads]
    return page(rows, paging, show=lambda row: row[1], id_of=lambda row: row[0])


async def show(session: AsyncSession, caller: Caller, settings: Settings, id: str) -> DatasetOut:
    """Raises UnknownDataset."""
    for dataset in await _built_in(settings):
        if dataset.id == id:
            return dataset
    upload = await queries.one(session, caller.account_id, id)
    if upload is None:
        raise UnknownDataset(f"there is no dataset {id!r}; GET /datasets lists yours and the built-in ones")
    return DatasetOut.model_validate(upload)


@dataclass(frozen=True)
class PlainImages:
    """What an order needs to know of the data set it names."""

    name: str
    train: int  # images to train on
    height: int
    width: int
    classes: int
    labelled: bool  # a classifier can be trained and tested on them


async def plain_images(session: AsyncSession, svc: Services, caller: Caller, name: str, pointer: str) -> PlainImages:
    """The built-in set or the caller's upload that the field at `pointer` names. Raises NoPlainImages, Invalid."""
    if name.startswith("ds_"):
        row = await queries.kept(session, caller.account_id, name)
        if row is None:
            raise NoPlainImages(f"there is no data set {name!r}", [(pointer, "no such upload; see GET /datasets")])
        if row.kind != "plain":
            raise Invalid(f"{name} holds protected images", [(pointer, "name a data set of plain images")])
        return PlainImages(row.name, row.train, row.height, row.width, len(row.classes), len(row.classes) > 1)
    known = await asyncio.to_thread(catalog.builtin_datasets, svc.settings.data_dir)
    for info in known:
        if info.name == name:
            return PlainImages(info.name, info.train, info.height, info.width, len(info.classes), info.labelled)
    names = ", ".join(info.name for info in known)
    raise NoPlainImages(f"there is no data set {name!r}", [(pointer, f"known: {names}, and ids of your uploads")])


async def upload(
    svc: Services,
    session: AsyncSession,
    caller: Caller,
    id: str,
    order: UploadOrder,
    archive: BinaryIO,
    originals: BinaryIO | None,
) -> DatasetOut:
    """Have a worker unpack the archives, and add the row, which the caller commits.

    The stored blob comes first, under a name that follows from the id; until the row exists nothing refers to it, and
    what a crash leaves behind `app.orphans` removes.
    """
    if originals is not None and order.kind == "plain":
        raise OriginalsNotTaken(
            "leave `originals` out, or say kind=protected", [("/originals", "only taken with kind protected")]
        )
    sent = {"archive": f"uploads/{id}.zip"}
    if originals is not None:
        sent["originals"] = f"uploads/{id}.originals.zip"
    blob = f"datasets/{id}.npz"
    asked = {"account": caller.account_id, "request": request_id.get()}
    head = {"op": "dataset", **asked, "archive": None, "originals": None, **sent, "blob": blob, **order.model_dump()}
    try:
        await asyncio.to_thread(svc.blobs.save, sent["archive"], archive)
        if originals is not None:
            await asyncio.to_thread(svc.blobs.save, sent["originals"], originals)
        failpoints.point("upload-before-unpacking")
        async with svc.turns.turn(svc.autocommit, caller.account_id, svc.settings.unpack_budget_s):
            made = await _unpacked(svc, head)
        failpoints.point("unpacked-before-row")
    finally:
        for name in sent.values():
            await asyncio.to_thread(svc.blobs.delete, name)
    row = Dataset(id=id, account_id=caller.account_id, name=order.name, kind=order.kind, blob=blob, **made)
    session.add(row)
    await session.flush()
    await session.refresh(row)
    return DatasetOut.model_validate(row)


async def remove(svc: Services, session: AsyncSession, caller: Caller, id: str) -> None:
    """The row first: a blob without a row is garbage, a row without a blob a lie. Raises UnknownDataset, InUse."""
    if any(dataset.id == id for dataset in await _built_in(svc.settings)):
        raise BuiltIn(f"{id!r} comes with the service or its data folder")
    found = await queries.claimed(session, caller.account_id, id)
    if found is None:
        raise UnknownDataset(f"there is no dataset {id!r}")
    if await queries.is_in_use(session, caller.account_id, id):
        raise InUse("cancel what uses it, or wait until it has ended, and delete again")
    await queries.remove(session, caller.account_id, id)
    await session.commit()
    failpoints.point("dataset-deleted-before-blob")
    with suppress(StorageFailed):  # it is deleted; what is left of it goes with the retention
        await asyncio.to_thread(svc.blobs.delete, found.blob)


async def _unpacked(svc: Services, head: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = await ask(
            svc.messages, svc.redis, svc.parcels, new_id("work"), Parcel(head), svc.settings.unpack_budget_s
        )
    except NoWorker:
        raise NotUnpacked(
            "upload it again in a while; nothing of it was stored", headers={"Retry-After": "30"}
        ) from None
    refused = answer.head.get("refused")
    if refused is not None:
        problem = _REFUSALS[refused["code"]]
        raise problem(refused["detail"], [(f"/{refused['field']}", refused["detail"])])
    if "storage" in answer.head:
        raise FAILURES[answer.head["storage"]]
    if "train" not in answer.head:
        raise Problem("the worker failed on this archive; its log says why")
    return answer.head


async def _built_in(settings: Settings) -> list[DatasetOut]:
    """Looks into the data folder, so in a thread."""
    listed = await asyncio.to_thread(catalog.builtin_datasets, settings.data_dir)
    return [
        DatasetOut(
            id=info.name,
            name=info.name,
            train=info.train,
            test=info.test,
            width=info.width,
            height=info.height,
            classes=list(info.classes),
            available=info.available,
            note=info.note,
        )
        for info in listed
    ]
