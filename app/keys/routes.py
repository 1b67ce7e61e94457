"""/keys: make, give, list, show, export, destroy."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.core.auth import CallerFirst, KeyExporter, KeyKeeper
from app.core.idempotency import Idempotent, Mismatch, Running
from app.core.ids import new_id
from app.core.pagination import Page, Paging
from app.core.problems import problems
from app.core.services import Session, Svc
from app.keys import service
from app.keys.schemas import KeyOrder, KeyOut, MaterialOut

router = APIRouter(prefix="/keys", tags=["keys"], route_class=CallerFirst)

Side = Annotated[int | None, Query(ge=1, le=65536, description="Of an image; by default the key's own, else 96")]
_MISSING = (service.UnknownKey, service.KeyDestroyed)


@router.post("", status_code=201, responses=problems(service.UnknownScheme, Mismatch, Running))
async def create_key(
    order: KeyOrder, caller: KeyKeeper, svc: Svc, session: Session, once: Idempotent, response: Response
) -> KeyOut:
    """Draw a key, or store your own."""
    async with once.reserve(key_id=new_id("key")) as ids:
        key = await service.create(session, svc, caller, order, ids["key_id"])
        headers = {"Location": f"/keys/{key.id}"}
        await once.keep(session, key, status=201, headers=headers)
        await session.commit()
    response.headers.update(headers)
    return key


@router.get("")
async def list_keys(caller: KeyKeeper, session: Session, paging: Paging) -> Page[KeyOut]:
    """Your keys, newest first, without the destroyed."""
    return await service.list_keys(session, caller, paging)


@router.get("/{id}", responses=problems(*_MISSING))
async def show_key(id: str, caller: KeyKeeper, session: Session, width: Side = None, height: Side = None) -> KeyOut:
    """One key, never its secret."""
    return await service.show_key(session, caller, id, width, height)


@router.get(
    "/{id}/material",
    responses=problems(*_MISSING, service.KeyNotReady, service.NotExportable, service.SizeMismatch),
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
async def cancel_training(id: str, caller: KeyKeeper, session: Session) -> KeyOut:
    """Stop the training of a key."""
    return await service.cancel(session, caller, id)


@router.delete("/{id}", status_code=204, responses=problems(*_MISSING, service.KeyBusy))
async def destroy_key(id: str, caller: KeyKeeper, svc: Svc, session: Session) -> None:
    """Destroy the secret for good. Afterwards every route answers 410 for this key."""
    await service.destroy(session, svc, caller, id)
