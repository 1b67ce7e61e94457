"""/keys: make, give, list, show, export, destroy."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from unveil.app.broker import TRAIN_KEY
from unveil.app.datasets.service import NoPlainImages
from unveil.app.db.ids import new_id
from unveil.app.dependencies import Session, Svc
from unveil.app.http.authentication import CallerFirst, KeyExporter, KeyKeeper
from unveil.app.http.etag import IfNoneMatch, matches, of_body
from unveil.app.http.idempotency import Idempotent, Mismatch, Running
from unveil.app.http.pagination import KeyPaging, Page
from unveil.app.http.problems import problems
from unveil.app.jobs.dispatch import QueueFull, ring
from unveil.app.keys import service
from unveil.app.keys.schemas import KeyOrder, KeyOut, MaterialOut

router = APIRouter(prefix="/keys", tags=["keys"], route_class=CallerFirst)

Side = Annotated[int | None, Query(ge=1, le=65536, description="Of an image; by default the key's own, else 96")]
_POLL_S = "2"
_MISSING = (service.UnknownKey, service.KeyDestroyed)


@router.post(
    "",
    status_code=201,
    response_model=KeyOut,
    responses={
        202: {"model": KeyOut, "description": "It will be trained: poll `Location` until it is ready"},
        **problems(service.UnknownScheme, NoPlainImages, QueueFull, Mismatch, Running),
    },
)
async def create_key(
    order: KeyOrder, caller: KeyKeeper, svc: Svc, session: Session, once: Idempotent, response: Response
) -> KeyOut:
    """Draw a key, store your own, or have one trained."""
    async with once.reserve(key_id=new_id("key")) as ids:
        key = await service.create(session, svc, caller, order, ids["key_id"])
        headers = {"Location": key.links["self"], **_polling(key)}
        status = 202 if key.status == "training" else 201
        await once.keep(session, key, status=status, headers=headers)
        await session.commit()
    if key.status == "training":
        await ring(svc, TRAIN_KEY, key.id)
    response.status_code = status
    response.headers.update(headers)
    return key


@router.get("")
async def list_keys(caller: KeyKeeper, session: Session, paging: KeyPaging) -> Page[KeyOut]:
    """Your keys, newest first, without the destroyed."""
    return await service.list_keys(session, caller, paging)


@router.get(
    "/{id}",
    response_model=KeyOut,
    responses={304: {"description": "Unchanged since the ETag in If-None-Match"}, **problems(*_MISSING)},
)
async def show_key(
    id: str,
    caller: KeyKeeper,
    session: Session,
    response: Response,
    width: Side = None,
    height: Side = None,
    if_none_match: IfNoneMatch = None,
) -> KeyOut | Response:
    """One key, never its secret."""
    key = await service.show_key(session, caller, id, width, height)
    headers = {"ETag": of_body(key), "Cache-Control": "private, no-cache", **_polling(key)}
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return key


@router.get(
    "/{id}/material",
    responses=problems(
        *_MISSING, service.KeyNotReady, service.NotExportable, service.UnknownScheme, service.SizeMismatch
    ),
)
async def export_key(
    id: str,
    caller: KeyExporter,
    svc: Svc,
    session: Session,
    response: Response,
    width: Side = None,
    height: Side = None,
) -> MaterialOut:
    """The secret itself, for images of one size. Needs the scope `keys:export`."""
    response.headers["Cache-Control"] = "no-store"
    return await service.material(session, svc, caller, id, width, height)


@router.post("/{id}/cancel", status_code=202, responses=problems(*_MISSING, service.NotTraining))
async def cancel_training(id: str, caller: KeyKeeper, session: Session, response: Response) -> KeyOut:
    """Stop the training of a key: at once where it waits, within seconds where it runs.

    Asked again it answers the same, also once it is `cancelled`; 409 where the key is ready or its training failed.
    """
    key = await service.cancel(session, caller, id)
    response.headers.update({"Location": key.links["self"], **_polling(key)})
    return key


@router.delete("/{id}", status_code=204, responses=problems(*_MISSING, service.KeyBusy))
async def destroy_key(id: str, caller: KeyKeeper, svc: Svc, session: Session) -> None:
    """Destroy the secret for good. Afterwards every route answers 410 for this key."""
    await service.destroy(session, svc, caller, id)


def _polling(key: KeyOut) -> dict[str, str]:
    return {"Retry-After": _POLL_S} if key.status in ("training", "cancelling") else {}
