"""Datasets: the built-in ones, the operator's folders, and uploads that a worker unpacks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.broker import RpcMessage, WorkerTimeout, call_worker
from unveil.app.datasets import queries
from unveil.app.datasets.schemas import DatasetOut, DatasetUpload
from unveil.app.db.ids import new_id
from unveil.app.db.tables import Dataset
from unveil.app.dependencies import AppState
from unveil.app.errors.problem import Conflict, Invalid, NotFound, Problem, TooLarge, Unavailable
from unveil.app.http.pagination import Page, PageRequest, build_page
from unveil.app.observability import failpoints
from unveil.app.observability.logging import request_id
from unveil.app.security.principal import Principal
from unveil.app.settings import Settings
from unveil.app.storage import STORAGE_ERROR_BY_CODE, StorageError
from unveil.models import catalog

# Cursors are ids; a built-in set has none, so its place in the list stands in for one.
_BUILTIN_CURSOR = "builtin_{:032x}"


class UnknownDataset(NotFound):
    code, title = "unknown_dataset", "No dataset has this id"


class UnknownPlainDataset(Invalid):
    """As the field of an order that names a dataset."""

    code, title = "unknown_dataset", "There is no such data set"


class DatasetBuiltIn(Conflict):
    code, title = "dataset_built_in", "A built-in dataset cannot be deleted"


class DatasetInUse(Conflict):
    code, title = "dataset_in_use", "An unfinished evaluation or training needs this dataset"


class OriginalsNotTaken(Invalid):
    code, title = "originals_not_taken", "Only a protected dataset has originals"


class BadArchive(Invalid):
    code, title = "bad_archive", "The archive cannot be used"


class ArchiveTooLarge(TooLarge):
    code, title = "archive_too_large", "The archive is above a limit"


class UnpackTimeout(Unavailable):
    code, title = "no_worker", "No worker has unpacked the archive in time"


_PROBLEM_BY_CODE = {problem.code: problem for problem in (BadArchive, ArchiveTooLarge)}


async def list_page(
    session: AsyncSession, principal: Principal, settings: Settings, paging: PageRequest
) -> Page[DatasetOut]:
    """Built-in sets and folders, then uploads, newest first."""
    rows: list[tuple[str, DatasetOut]] = []
    after = paging.after
    if after is None or after.startswith("builtin_"):
        builtin_rows = [
            (_BUILTIN_CURSOR.format(place), dataset) for place, dataset in enumerate(await _list_builtin(settings))
        ]
        rows = [row for row in builtin_rows if after is None or row[0] > after][: paging.limit + 1]
        after = None
    remaining = paging.limit + 1 - len(rows)
    if remaining:
        uploads = await queries.list_newest(session, principal.account_id, after, remaining)
        rows += [(upload.id, DatasetOut.model_validate(upload)) for upload in uploads]
    return build_page(rows, paging, serialize=lambda row: row[1], id_of=lambda row: row[0])


async def get(session: AsyncSession, principal: Principal, settings: Settings, id: str) -> DatasetOut:
    """Raises UnknownDataset."""
    for dataset in await _list_builtin(settings):
        if dataset.id == id:
            return dataset
    upload = await queries.get(session, principal.account_id, id)
    if upload is None:
        raise UnknownDataset(f"there is no dataset {id!r}; GET /datasets lists yours and the built-in ones")
    return DatasetOut.model_validate(upload)


@dataclass(frozen=True)
class DatasetRef:
    """What an order needs to know of the data set it names."""

    name: str
    train: int  # images to train on
    height: int
    width: int
    classes: int
    labelled: bool  # a classifier can be trained and tested on them


async def resolve_plain_dataset(
    session: AsyncSession, app_state: AppState, principal: Principal, name: str, pointer: str
) -> DatasetRef:
    """The built-in set or the caller's upload that the field at `pointer` names. Raises NoPlainImages, Invalid."""
    if name.startswith("ds_"):
        row = await queries.get_for_share(session, principal.account_id, name)
        if row is None:
            raise UnknownPlainDataset(
                f"there is no data set {name!r}", [(pointer, "no such upload; see GET /datasets")]
            )
        if row.kind != "plain":
            raise Invalid(f"{name} holds protected images", [(pointer, "name a data set of plain images")])
        return DatasetRef(row.name, row.train_count, row.height, row.width, len(row.classes), len(row.classes) > 1)
    datasets = await asyncio.to_thread(catalog.builtin_datasets, app_state.settings.data_dir)
    for info in datasets:
        if info.name == name:
            return DatasetRef(info.name, info.train, info.height, info.width, len(info.classes), info.labelled)
    names = ", ".join(info.name for info in datasets)
    raise UnknownPlainDataset(f"there is no data set {name!r}", [(pointer, f"known: {names}, and ids of your uploads")])


async def upload(
    app_state: AppState,
    session: AsyncSession,
    principal: Principal,
    id: str,
    body: DatasetUpload,
    archive: BinaryIO,
    originals: BinaryIO | None,
) -> DatasetOut:
    """Have a worker unpack the archives, and add the row, which the caller commits.

    The stored blob comes first, under a name that follows from the id; until the row exists nothing refers to it, and
    what a crash leaves behind `app.orphans` removes.
    """
    if originals is not None and body.kind == "plain":
        raise OriginalsNotTaken(
            "leave `originals` out, or say kind=protected", [("/originals", "only taken with kind protected")]
        )
    staged_blobs = {"archive": f"uploads/{id}.zip"}
    if originals is not None:
        staged_blobs["originals"] = f"uploads/{id}.originals.zip"
    blob = f"datasets/{id}.npz"
    request_ids = {"account": principal.account_id, "request": request_id.get()}
    metadata = {
        "op": "dataset",
        **request_ids,
        "archive": None,
        "originals": None,
        **staged_blobs,
        "blob": blob,
        **body.model_dump(),
    }
    try:
        await asyncio.to_thread(app_state.blobs.write_file, staged_blobs["archive"], archive)
        if originals is not None:
            await asyncio.to_thread(app_state.blobs.write_file, staged_blobs["originals"], originals)
        failpoints.failpoint("upload-before-unpacking")
        async with app_state.concurrency_limiter.slot(
            app_state.autocommit_engine, principal.account_id, app_state.settings.unpack_timeout_s
        ):
            columns = await _unpack_in_worker(app_state, metadata)
        failpoints.failpoint("unpacked-before-row")
    finally:
        for name in staged_blobs.values():
            await asyncio.to_thread(app_state.blobs.delete, name)
    row = Dataset(id=id, account_id=principal.account_id, name=body.name, kind=body.kind, blob=blob, **columns)
    session.add(row)
    await session.flush()
    await session.refresh(row)
    return DatasetOut.model_validate(row)


async def delete(app_state: AppState, session: AsyncSession, principal: Principal, id: str) -> None:
    """The row first: a blob without a row is garbage, a row without a blob a lie. Raises UnknownDataset, InUse."""
    if any(dataset.id == id for dataset in await _list_builtin(app_state.settings)):
        raise DatasetBuiltIn(f"{id!r} comes with the service or its data folder")
    dataset_row = await queries.get_for_update(session, principal.account_id, id)
    if dataset_row is None:
        raise UnknownDataset(f"there is no dataset {id!r}")
    if await queries.is_in_use(session, principal.account_id, id):
        raise DatasetInUse("cancel what uses it, or wait until it has ended, and delete again")
    await queries.delete_dataset(session, principal.account_id, id)
    await session.commit()
    failpoints.failpoint("dataset-deleted-before-blob")
    with suppress(StorageError):  # it is deleted; what is left of it goes with the retention
        await asyncio.to_thread(app_state.blobs.delete, dataset_row.blob)


async def _unpack_in_worker(app_state: AppState, metadata: dict[str, Any]) -> dict[str, Any]:
    try:
        reply = await call_worker(
            app_state.celery,
            app_state.redis,
            app_state.message_codec,
            new_id("work"),
            RpcMessage(metadata),
            app_state.settings.unpack_timeout_s,
        )
    except WorkerTimeout:
        raise UnpackTimeout(
            "upload it again in a while; nothing of it was stored", headers={"Retry-After": "30"}
        ) from None
    rejection = reply.metadata.get("refused")
    if rejection is not None:
        problem = _PROBLEM_BY_CODE[rejection["code"]]
        raise problem(rejection["detail"], [(f"/{rejection['field']}", rejection["detail"])])
    if "storage" in reply.metadata:
        raise STORAGE_ERROR_BY_CODE[reply.metadata["storage"]]
    if "train_count" not in reply.metadata:
        raise Problem("the worker failed on this archive; its log says why")
    return reply.metadata


async def _list_builtin(settings: Settings) -> list[DatasetOut]:
    """Looks into the data folder, so in a thread."""
    datasets = await asyncio.to_thread(catalog.builtin_datasets, settings.data_dir)
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
        for info in datasets
    ]
