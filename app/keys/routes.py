"""/keys: make, give, list, show, export, destroy."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from unveil.app.db.ids import new_id
from unveil.app.dependencies import AppStateDep, Session
from unveil.app.errors.problem import (
    CostQuotaExceeded,
    IdempotencyMismatch,
    IdempotencyRunning,
    Invalid,
    KeyBusy,
    KeyDestroyed,
    KeyNotReady,
    NotExportable,
    NotTraining,
    QueueFull,
    SizeMismatch,
    UnknownKey,
)
from unveil.app.http.authentication import AuthenticatedRoute, KeyExportPrincipal, KeysPrincipal
from unveil.app.http.etag import IfNoneMatch, etag_for, matches
from unveil.app.http.idempotency import IdempotencyDep
from unveil.app.http.pagination import KeyPaging, Page
from unveil.app.http.problems import problems
from unveil.app.jobs.dispatch import dispatch
from unveil.app.keys import service
from unveil.app.keys.schemas import KeyCreate, KeyOut, MaterialOut

router = APIRouter(prefix="/keys", tags=["keys"], route_class=AuthenticatedRoute)

Side = Annotated[int | None, Query(ge=1, le=65536, description="Of an image; by default the key's own, else 96")]
_POLL_INTERVAL_S = "2"
_NOT_FOUND_PROBLEMS = (UnknownKey, KeyDestroyed)


@router.post(
    "",
    status_code=201,
    response_model=KeyOut,
    responses={
        202: {"model": KeyOut, "description": "It will be trained: poll `Location` until it is ready"},
        **problems(Invalid, CostQuotaExceeded, QueueFull, IdempotencyMismatch, IdempotencyRunning),
    },
)
async def create_key(
    body: KeyCreate,
    principal: KeysPrincipal,
    app_state: AppStateDep,
    session: Session,
    idempotency: IdempotencyDep,
    response: Response,
) -> KeyOut:
    """Create a key: draw it at random, import key material, or start a training."""
    async with idempotency.begin(key_id=new_id("key")) as ids:
        key = await service.create(session, app_state, principal, body, ids["key_id"])
        headers = {"Location": key.links["self"], **_polling_headers(key)}
        status = 202 if key.status == "training" else 201
        await idempotency.store_response(session, key, status=status, headers=headers)
        await session.commit()
    if key.status == "training":
        await dispatch(app_state, 1)
    response.status_code = status
    response.headers.update(headers)
    return key


@router.get("")
async def list_keys(principal: KeysPrincipal, session: Session, paging: KeyPaging) -> Page[KeyOut]:
    """Your keys, newest first, without destroyed keys."""
    return await service.list_keys(session, principal, paging)


@router.get(
    "/{id}",
    response_model=KeyOut,
    responses={304: {"description": "Unchanged since the ETag in If-None-Match"}, **problems(*_NOT_FOUND_PROBLEMS)},
)
async def get_key(
    id: str,
    principal: KeysPrincipal,
    session: Session,
    response: Response,
    width: Side = None,
    height: Side = None,
    if_none_match: IfNoneMatch = None,
) -> KeyOut | Response:
    """One key, without its secret."""
    key = await service.get_key(session, principal, id, width, height)
    headers = {"ETag": etag_for(key), "Cache-Control": "private, no-cache", **_polling_headers(key)}
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return key


@router.get(
    "/{id}/material",
    responses=problems(*_NOT_FOUND_PROBLEMS, KeyNotReady, NotExportable, SizeMismatch),
)
async def export_key(
    id: str,
    principal: KeyExportPrincipal,
    app_state: AppStateDep,
    session: Session,
    response: Response,
    width: Side = None,
    height: Side = None,
) -> MaterialOut:
    """The secret of a key, for images of one size. Needs the scope `keys:export`."""
    response.headers["Cache-Control"] = "no-store"
    return await service.export_material(session, app_state, principal, id, width, height)


@router.post("/{id}/cancel", status_code=202, responses=problems(*_NOT_FOUND_PROBLEMS, NotTraining))
async def cancel_training(id: str, principal: KeysPrincipal, session: Session, response: Response) -> KeyOut:
    """Stop the training of a key: at once where it waits, within seconds where it runs.

    Asked again it answers the same, also once it is `cancelled`; 409 where the key is ready or its training failed.
    """
    key = await service.cancel(session, principal, id)
    response.headers.update({"Location": key.links["self"], **_polling_headers(key)})
    return key


@router.delete("/{id}", status_code=204, responses=problems(*_NOT_FOUND_PROBLEMS, KeyBusy))
async def destroy_key(id: str, principal: KeysPrincipal, app_state: AppStateDep, session: Session) -> None:
    """Destroy the secret of a key permanently. Afterwards every route responds 410 for this key."""
    await service.destroy(session, app_state, principal, id)


def _polling_headers(key: KeyOut) -> dict[str, str]:
    return {"Retry-After": _POLL_INTERVAL_S} if key.status in ("training", "cancelling") else {}
