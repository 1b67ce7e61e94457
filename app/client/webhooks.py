"""The operations of webhooks: `client.webhooks`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import cast

from unveil.app.client.operations import iterate_pages, resource_path
from unveil.app.client.transport import BoundClient
from unveil.app.client.types import Webhook, WebhookCreated, WebhookDelivery


async def create_webhook(
    client: BoundClient, /, url: str, events: Sequence[str] = ("evaluation.finished",)
) -> WebhookCreated:
    """Register a URL for events of the account. Only this response contains the secret of the signatures."""
    body = {"url": url, "events": list(events)}
    return cast(WebhookCreated, (await client._transport.request("POST", "/webhooks", json=body)).json())


async def list_webhooks(client: BoundClient, /) -> list[Webhook]:
    """Your webhooks, newest first, without their secrets."""
    return list((await client._transport.request("GET", "/webhooks")).json()["items"])


async def get_webhook(client: BoundClient, /, id: str) -> Webhook:
    """One webhook, without its secret."""
    return cast(Webhook, (await client._transport.request("GET", resource_path("webhooks", id))).json())


def list_deliveries(client: BoundClient, /, id: str) -> AsyncGenerator[WebhookDelivery]:
    """What was sent to a webhook, newest first."""
    return iterate_pages(
        client, f"{resource_path('webhooks', id)}/deliveries", lambda item: cast(WebhookDelivery, item)
    )


async def delete_webhook(client: BoundClient, /, id: str) -> None:
    """Delete a webhook. Its pending deliveries are not sent."""
    await client._transport.request("DELETE", resource_path("webhooks", id))
