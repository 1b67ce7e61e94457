"""The page of webhooks: register, see the deliveries, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from unveil.app.dashboard.rendering import PageRoute, redirect, render_page
from unveil.app.db.ids import new_id
from unveil.app.dependencies import AppStateDep, Session
from unveil.app.errors.problem import Conflict, Invalid
from unveil.app.http.authentication import EvaluatePrincipal, ReadPrincipal
from unveil.app.http.pagination import PageRequest
from unveil.app.security.principal import Principal
from unveil.app.webhooks import service
from unveil.app.webhooks.schemas import WebhookCreate, WebhookCreated

router = APIRouter(route_class=PageRoute)

_DELIVERIES_SHOWN = 10  # of each webhook


@router.get("/dashboard/webhooks")
async def show_webhooks(request: Request, principal: ReadPrincipal, session: Session) -> Response:
    return await _render(request, principal, session)


@router.post("/dashboard/webhooks")
async def create_webhook(
    request: Request,
    principal: EvaluatePrincipal,
    app_state: AppStateDep,
    session: Session,
    url: Annotated[str, Form(min_length=1, max_length=2000)],
) -> Response:
    """The page with the secret of the new webhook, which it shows this once."""
    try:
        created = await service.create(session, app_state, principal, WebhookCreate(url=url), new_id("webhook"))
    except (Invalid, Conflict) as problem:
        error = f"The URL {problem.errors[0][1]}." if problem.errors else f"{problem.detail}."
        return await _render(request, principal, session, url=url, error=error, status=problem.status)
    await session.commit()
    return await _render(request, principal, session, created=created)


@router.post("/dashboard/webhooks/{id}/delete")
async def delete_webhook(id: str, principal: EvaluatePrincipal, session: Session) -> Response:
    await service.delete(session, principal, id)
    return redirect("/dashboard/webhooks")


async def _render(
    request: Request,
    principal: Principal,
    session: Session,
    *,
    created: WebhookCreated | None = None,
    url: str = "",
    error: str = "",
    status: int = 200,
) -> Response:
    webhooks = await service.list_webhooks(session, principal)
    shown = PageRequest(_DELIVERIES_SHOWN, None)
    deliveries = {
        webhook.id: await service.list_deliveries(session, principal, webhook.id, shown) for webhook in webhooks
    }
    return render_page(
        request,
        "webhooks.html",
        principal,
        status=status,
        webhooks=webhooks,
        deliveries=deliveries,
        created=created,
        url=url,
        error=error,
    )
