"""Rules of webhooks: which URLs may be registered, and their secrets, which are shown once and stored encrypted."""

from __future__ import annotations

import base64
import os

from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.db.tables import Webhook, WebhookDelivery
from unveil.app.dependencies import AppState
from unveil.app.errors.problem import Conflict, Invalid, NotFound
from unveil.app.http.pagination import Page, PageRequest, build_page
from unveil.app.security.envelope import Keyring
from unveil.app.security.principal import Principal
from unveil.app.settings import Settings
from unveil.app.webhooks import connection, queries
from unveil.app.webhooks.schemas import DeliveryOut, WebhookCreate, WebhookCreated, WebhookOut

_MAX_WEBHOOKS = 20  # of an account
_SECRET_BYTES = 32
_PURPOSE = "webhook"


async def create(
    session: AsyncSession, app_state: AppState, principal: Principal, body: WebhookCreate, id: str
) -> WebhookCreated:
    """The webhook with its secret, not yet committed. Raises Invalid, Conflict."""
    url = _check_url(body.url, app_state.settings)
    if len(await queries.list_newest(session, principal.account_id)) >= _MAX_WEBHOOKS:
        raise Conflict(f"the account has {_MAX_WEBHOOKS} webhooks; delete some")
    secret = os.urandom(_SECRET_BYTES)
    sealed = app_state.keyring.seal(secret, purpose=_PURPOSE, owner=principal.account_id, id=id)
    webhook = await queries.add(session, id, principal.account_id, url, body.events, sealed)
    return WebhookCreated(**to_out(webhook).model_dump(), secret=f"whsec_{base64.b64encode(secret).decode()}")


def _check_url(text: str, settings: Settings) -> str:
    """The host name is not resolved here, because its addresses may change: the sender checks them each time."""
    try:
        url = connection.parse_url(text)
        if url.scheme == "http" and not settings.webhook_networks:
            raise ValueError("must begin with https://")
        connection.require_allowed(url, connection.literal_addresses(url), settings.webhook_networks)
    except (ValueError, connection.DeliveryFailed) as error:
        raise Invalid("the webhook has an unusable URL", [("/url", str(error))]) from None
    return str(url)


def open_secret(keyring: Keyring, account_id: str, id: str, sealed: bytes) -> bytes:
    """Raises DecryptionError."""
    return keyring.open(sealed, purpose=_PURPOSE, owner=account_id, id=id)


async def get(session: AsyncSession, principal: Principal, id: str) -> Webhook:
    """Raises NotFound."""
    webhook = await queries.get(session, principal.account_id, id)
    if webhook is None:
        raise _unknown(id)
    return webhook


async def list_webhooks(session: AsyncSession, principal: Principal) -> list[WebhookOut]:
    """Newest first."""
    return [to_out(webhook) for webhook in await queries.list_newest(session, principal.account_id)]


async def list_deliveries(
    session: AsyncSession, principal: Principal, id: str, paging: PageRequest
) -> Page[DeliveryOut]:
    """Newest first. Raises NotFound."""
    webhook = await get(session, principal, id)
    rows = await queries.list_deliveries(session, webhook.id, paging)
    return build_page(rows, paging, _to_delivery_out, lambda row: row.id)


async def delete(session: AsyncSession, principal: Principal, id: str) -> None:
    """Its deliveries end with it. Commits. Raises NotFound."""
    if not await queries.delete_webhook(session, principal.account_id, id):
        raise _unknown(id)
    await session.commit()


def _unknown(id: str) -> NotFound:
    return NotFound(f"there is no webhook {id!r}; see GET /webhooks")


def to_out(webhook: Webhook) -> WebhookOut:
    return WebhookOut.model_validate(
        {"id": webhook.id, "url": webhook.url, "events": webhook.events, "created_at": webhook.created_at}
    )


def _to_delivery_out(delivery: WebhookDelivery) -> DeliveryOut:
    return DeliveryOut.model_validate(
        {
            "id": delivery.id,
            "event": delivery.event,
            "evaluation": delivery.evaluation_id,
            "status": delivery.status,
            "attempts": delivery.attempts,
            "response_status": delivery.response_status,
            "error": delivery.error,
            "created_at": delivery.created_at,
            "next_attempt_at": delivery.next_attempt_at,
            "finished_at": delivery.finished_at,
        }
    )
