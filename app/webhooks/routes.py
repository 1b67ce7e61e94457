"""/webhooks: URLs of an account that the service informs of finished evaluations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from unveil.app.db.ids import new_id
from unveil.app.dependencies import AppStateDep, Session
from unveil.app.errors.problem import Conflict, IdempotencyMismatch, IdempotencyRunning, Invalid, NotFound
from unveil.app.http.authentication import AuthenticatedRoute, EvaluatePrincipal, ReadPrincipal
from unveil.app.http.idempotency import IdempotencyDep
from unveil.app.http.pagination import DeliveryPaging, Page
from unveil.app.http.problems import problems
from unveil.app.webhooks import service
from unveil.app.webhooks.schemas import DeliveryOut, WebhookCreate, WebhookCreated, WebhookList, WebhookOut

router = APIRouter(prefix="/webhooks", tags=["webhooks"], route_class=AuthenticatedRoute)

WebhookId = Annotated[str, Path(examples=["webhook_0197f3c2a5d17a3b8c4d5e6f708192a3"])]


@router.post("", status_code=201, responses=problems(Invalid, Conflict, IdempotencyRunning, IdempotencyMismatch))
async def create_webhook(
    body: WebhookCreate,
    principal: EvaluatePrincipal,
    app_state: AppStateDep,
    session: Session,
    idempotency: IdempotencyDep,
    response: Response,
) -> WebhookCreated:
    """Register a URL. The service sends it a signed POST whenever an evaluation of the account ends.

    `docs/how-to/webhooks.md` has the format and a function that verifies the signature. The secret is in this answer
    only.
    """
    async with idempotency.begin(id=new_id("webhook")) as ids:
        webhook = await service.create(session, app_state, principal, body, ids["id"])
        headers = {"Location": f"/webhooks/{webhook.id}"}
        await idempotency.store_response(session, webhook, status=201, headers=headers, secret=True)
        await session.commit()
    response.headers.update(headers)
    return webhook


@router.get("")
async def list_webhooks(principal: ReadPrincipal, session: Session) -> WebhookList:
    """Your webhooks, newest first, without their secrets."""
    return WebhookList(items=await service.list_webhooks(session, principal))


@router.get("/{id}", responses=problems(NotFound))
async def get_webhook(id: WebhookId, principal: ReadPrincipal, session: Session) -> WebhookOut:
    """One webhook, without its secret."""
    return service.to_out(await service.get(session, principal, id))


@router.get("/{id}/deliveries", responses=problems(NotFound, Invalid))
async def list_deliveries(
    id: WebhookId, principal: ReadPrincipal, session: Session, paging: DeliveryPaging
) -> Page[DeliveryOut]:
    """What was sent, newest first: a failed attempt is repeated seven times within 21 hours."""
    return await service.list_deliveries(session, principal, id, paging)


@router.delete("/{id}", status_code=204, responses=problems(NotFound))
async def delete_webhook(id: WebhookId, principal: EvaluatePrincipal, session: Session) -> None:
    """Delete a webhook. Its pending deliveries are not sent."""
    await service.delete(session, principal, id)
