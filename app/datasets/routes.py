"""/datasets: list, show, upload, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, Request, Response, UploadFile

from unveil.app.datasets import service
from unveil.app.datasets.schemas import DatasetKind, DatasetOut, DatasetUpload
from unveil.app.db.ids import new_id
from unveil.app.dependencies import AppStateDep, Session
from unveil.app.errors.problem import (
    ArchiveTooLarge,
    BadArchive,
    DatasetBuiltIn,
    DatasetInUse,
    IdempotencyMismatch,
    IdempotencyRunning,
    Invalid,
    NotExact,
    NoWorker,
    OriginalsNotTaken,
    UnknownDataset,
)
from unveil.app.http.authentication import AuthenticatedRoute, EvaluatePrincipal, ReadPrincipal
from unveil.app.http.idempotency import IdempotencyDep
from unveil.app.http.pagination import DatasetPaging, Page
from unveil.app.http.problems import problems
from unveil.app.http.uploads import reject_unknown_fields

router = APIRouter(prefix="/datasets", tags=["datasets"], route_class=AuthenticatedRoute)

_FIELDS = frozenset({"name", "archive", "kind", "originals", "size", "seed"})
_PRINTABLE = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$"  # no control characters, and not only spaces


@router.get("", responses=problems(Invalid))
async def list_datasets(
    principal: ReadPrincipal, app_state: AppStateDep, session: Session, paging: DatasetPaging
) -> Page[DatasetOut]:
    """Built-in datasets, the folders of the operator, then your uploads, newest first."""
    return await service.list_page(session, principal, app_state.settings, paging)


@router.get("/{id}", responses=problems(UnknownDataset))
async def get_dataset(id: str, principal: ReadPrincipal, app_state: AppStateDep, session: Session) -> DatasetOut:
    """One dataset, by the name of a built-in one or the id of an upload."""
    return await service.get(session, principal, app_state.settings, id)


@router.post(
    "",
    status_code=201,
    form_limits={"max_files": 2, "max_fields": 8},
    responses=problems(
        BadArchive,
        ArchiveTooLarge,
        NotExact,
        OriginalsNotTaken,
        NoWorker,
        IdempotencyMismatch,
        IdempotencyRunning,
    ),
)
async def upload_dataset(
    request: Request,
    principal: EvaluatePrincipal,
    app_state: AppStateDep,
    session: Session,
    idempotency: IdempotencyDep,
    response: Response,
    name: Annotated[str, Form(min_length=1, max_length=200, pattern=_PRINTABLE, examples=["holiday photographs"])],
    archive: Annotated[
        UploadFile,
        File(
            description="zip: train/ and, if there is one, test/, with class folders below; or .npy or .npz of uint8 "
            "images [N, H, W, 3], and labels",
            examples=["photographs.zip"],
        ),
    ],
    kind: Annotated[
        DatasetKind,
        Form(
            description="plain: cropped to a square and resized; protected: used unchanged, all of one size; "
            "reconstructed: the output of your own attack, named as the test images are, for the attack `submitted`"
        ),
    ] = "plain",
    originals: Annotated[
        UploadFile | None,
        File(description="The plain images (protected only): zip with the same names, or NumPy file in the same order"),
    ] = None,
    size: Annotated[int, Form(ge=8, le=512, description="Side of plain images in pixels")] = 96,
    seed: Annotated[
        int,
        Form(
            ge=0,
            le=2**32 - 1,
            description="Seed of the 80/20 split into training and test, for an archive without test/",
        ),
    ] = 0,
) -> DatasetOut:
    """Upload a zip of images, or a NumPy file. A worker unpacks it while the request waits."""
    reject_unknown_fields(await request.form(), _FIELDS)
    body = DatasetUpload(name=name, kind=kind, size=size, seed=seed)
    async with idempotency.begin(dataset_id=new_id("ds")) as ids:
        plain = None if originals is None else originals.file
        dataset = await service.upload(app_state, session, principal, ids["dataset_id"], body, archive.file, plain)
        headers = {"Location": f"/datasets/{dataset.id}"}
        await idempotency.store_response(session, dataset, status=201, headers=headers)
        await session.commit()
    response.headers.update(headers)
    return dataset


@router.delete("/{id}", status_code=204, responses=problems(UnknownDataset, DatasetBuiltIn, DatasetInUse))
async def delete_dataset(id: str, principal: EvaluatePrincipal, app_state: AppStateDep, session: Session) -> None:
    """Delete an upload. Evaluations that used it keep their results."""
    await service.delete(app_state, session, principal, id)
