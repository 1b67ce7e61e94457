"""Datasets: the built-in ones, the operator's folders, and uploads that a worker unpacks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import asdict
from typing import BinaryIO

from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.datasets import queries
from unveil.app.datasets.schemas import DatasetOut, DatasetUpload
from unveil.app.db.tables import Dataset
from unveil.app.dependencies import AppState
from unveil.app.errors.problem import (
    DatasetBuiltIn,
    DatasetInUse,
    Invalid,
    OriginalsNotTaken,
    UnknownDataset,
)
from unveil.app.http.pagination import Page, PageRequest, build_page
from unveil.app.observability import failpoints
from unveil.app.observability.logging import current_request_id
from unveil.app.rpc.messages import ArchiveReply, ArchiveRequest
from unveil.app.security.principal import Principal
from unveil.app.settings import Settings
from unveil.app.storage import StorageError
from unveil.models import catalog
from unveil.models.catalog import DatasetInfo

# Cursors are ids; a built-in set has none, so its place in the list stands in for one.
_BUILTIN_CURSOR = "builtin_{:032x}"


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


def to_info(row: Dataset) -> DatasetInfo:
    return DatasetInfo(
        row.name,
        row.train_count,
        row.test_count,
        row.width,
        row.height,
        tuple(row.classes),
        note=row.note,
        labelled=row.labelled,
        has_originals=row.has_originals,
    )


async def resolve_plain_dataset(
    session: AsyncSession, app_state: AppState, principal: Principal, name: str, pointer: str
) -> DatasetInfo:
    """The built-in set or the caller's upload that the field at `pointer` names. Raises UnknownDataset, Invalid."""
    if name.startswith("ds_"):
        row = await queries.get_for_share(session, principal.account_id, name)
        if row is None:
            errors = [(pointer, "no such upload; see GET /datasets")]
            raise UnknownDataset(f"there is no dataset {name!r}", errors, status=422)
        if row.kind != "plain":
            raise Invalid(f"{name} holds {row.kind} images", [(pointer, "name a dataset of plain images")])
        return to_info(row)
    datasets = await asyncio.to_thread(catalog.builtin_datasets, app_state.settings.data_dir)
    for info in datasets:
        if info.name == name:
            if not info.available and info.train == 0:  # a folder that cannot be read, not one to be downloaded
                raise Invalid(f"the dataset {name} cannot be read", [(pointer, info.note)])
            return info
    names = ", ".join(info.name for info in datasets)
    errors = [(pointer, f"known: {names}, and ids of your uploads")]
    raise UnknownDataset(f"there is no dataset {name!r}", errors, status=422)


async def upload(
    app_state: AppState,
    session: AsyncSession,
    principal: Principal,
    id: str,
    body: DatasetUpload,
    archive: BinaryIO,
    originals: BinaryIO | None,
) -> DatasetOut:
    """Have a worker unpack the archives, and add the row; the caller commits.

    The worker writes the blob before the row exists, under a name that follows from the id. If the API crashes in
    between, no row names the blob and retention deletes it.
    """
    if originals is not None and body.kind != "protected":
        message = "only a protected dataset takes originals; omit them, or send kind=protected"
        raise OriginalsNotTaken(message, [("/originals", message)])
    request = ArchiveRequest(
        account_id=principal.account_id,
        request_id=current_request_id(),
        archive_blob=f"uploads/{id}.zip",
        originals_blob=None if originals is None else f"uploads/{id}.originals.zip",
        dataset_blob=f"datasets/{id}.npz",
        **body.model_dump(),
    )
    try:
        await asyncio.to_thread(app_state.blobs.write_file, request.archive_blob, archive)
        if originals is not None and request.originals_blob is not None:
            await asyncio.to_thread(app_state.blobs.write_file, request.originals_blob, originals)
        failpoints.failpoint("upload-before-unpacking")
        reply = await app_state.worker.call(
            request,
            ArchiveReply,
            timeout_s=app_state.settings.unpack_timeout_s,
        )
        failpoints.failpoint("unpacked-before-row")
    finally:
        for name in filter(None, (request.archive_blob, request.originals_blob)):
            await asyncio.to_thread(app_state.blobs.delete, name)
    row = Dataset(
        id=id,
        account_id=principal.account_id,
        name=body.name,
        kind=body.kind,
        blob=request.dataset_blob,
        **asdict(reply),
    )
    session.add(row)
    await session.flush()
    await session.refresh(row)
    return DatasetOut.model_validate(row)


async def delete(app_state: AppState, session: AsyncSession, principal: Principal, id: str) -> None:
    """Delete the row before the blob, so that no row names a missing blob. Raises UnknownDataset, DatasetInUse."""
    if any(dataset.id == id for dataset in await _list_builtin(app_state.settings)):
        raise DatasetBuiltIn(f"{id!r} is built in or in the data folder of the operator")
    dataset_row = await queries.get_for_update(session, principal.account_id, id)
    if dataset_row is None:
        raise UnknownDataset(f"there is no dataset {id!r}")
    if await queries.is_in_use(session, principal.account_id, id):
        raise DatasetInUse(
            "cancel the evaluations and trainings that use it, or wait until they end, then delete it again"
        )
    await queries.delete_dataset(session, principal.account_id, id)
    await session.commit()
    failpoints.failpoint("dataset-deleted-before-blob")
    with suppress(StorageError):  # retention deletes the blob later
        await asyncio.to_thread(app_state.blobs.delete, dataset_row.blob)


async def _list_builtin(settings: Settings) -> list[DatasetOut]:
    """Reads the data folder, so it runs in a thread."""
    datasets = await asyncio.to_thread(catalog.builtin_datasets, settings.data_dir)
    return [DatasetOut.model_validate({"id": info.name, **vars(info)}) for info in datasets]
