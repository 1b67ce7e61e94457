"""Sends the deliveries of webhooks that are due, from the API process: the only one with a way to the Internet.

The transaction that ends an evaluation inserts its deliveries (app/jobs/event_log.py). Every API process polls for due
ones and claims them for a lease, so a delivery survives the death of the process that was sending it and may arrive
twice: receivers recognise a repetition by its `webhook-id`. A failed attempt is repeated after `RETRY_DELAYS_S`.

Requests are signed as https://www.standardwebhooks.com specifies:
webhook-signature = "v1," + Base64(HMAC-SHA-256(secret, webhook-id + "." + webhook-timestamp + "." + body)).
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
from sqlalchemy.exc import SQLAlchemyError

from unveil.app.dependencies import AppState
from unveil.app.security.envelope import DecryptionError
from unveil.app.webhooks import connection, queries
from unveil.app.webhooks.connection import DeliveryFailed
from unveil.app.webhooks.queries import ClaimedDelivery
from unveil.app.webhooks.service import open_secret

log = logging.getLogger(__name__)

RETRY_DELAYS_S = (10.0, 60.0, 300.0, 1800.0, 7200.0, 21600.0, 43200.0)  # after the first attempt, about 21 hours in all
_POLL_INTERVAL_S = 2.0
_TIMEOUT_S = 15.0  # of one attempt, from the resolution of the name to the head of the response
_LEASE_S = 60.0  # well above the timeout: a living process records its outcome before another one tries again
_BATCH_SIZE = 50
_BATCH_SIZE_PER_ACCOUNT = 5  # receivers that do not answer delay those of other accounts by one timeout at most


@asynccontextmanager
async def send_deliveries(app_state: AppState) -> AsyncIterator[None]:
    """Sends in the background."""
    task = asyncio.create_task(_send_for_ever(app_state))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _send_for_ever(app_state: AppState) -> None:
    # No kept connection: those of the pool are found by address, and two hosts may share one.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(trust_env=False, limits=limits, timeout=_TIMEOUT_S) as client:
        while True:
            sent = 0
            try:
                sent = await send_due(app_state, client)
            except (SQLAlchemyError, OSError) as error:
                log.warning("webhook deliveries wait for the database: %s", type(error).__name__)
            except Exception:
                log.exception("sending webhook deliveries failed")
            if not sent:
                await asyncio.sleep(_POLL_INTERVAL_S)


async def send_due(app_state: AppState, client: httpx.AsyncClient) -> int:
    """Make one attempt at each delivery that is due, up to a batch; return their number."""
    async with app_state.sessions.begin() as session:
        deliveries = await queries.claim_due(
            session, limit=_BATCH_SIZE, limit_per_account=_BATCH_SIZE_PER_ACCOUNT, lease_s=_LEASE_S
        )
    async with asyncio.TaskGroup() as attempts:
        for delivery in deliveries:
            attempts.create_task(_attempt(app_state, client, delivery))
    return len(deliveries)


async def _attempt(app_state: AppState, client: httpx.AsyncClient, delivery: ClaimedDelivery) -> None:
    status, error = None, ""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            status = await _send(app_state, client, delivery)
        if not 200 <= status < 300:
            error = f"HTTP status {status}" + ("; redirects are not followed" if 300 <= status < 400 else "")
    except TimeoutError:
        error = f"no response within {_TIMEOUT_S:.0f} s"
    except DeliveryFailed as failure:
        error = str(failure)
    except DecryptionError:
        error = "the secret of the webhook does not decrypt: delete the webhook and create it again"
    except Exception:
        log.exception("delivery %s failed", delivery.id)
        error = "internal error; the log of the service has the details"
    retry_in_s = None
    if error and delivery.attempts <= len(RETRY_DELAYS_S):
        retry_in_s = RETRY_DELAYS_S[delivery.attempts - 1]
    outcome = "delivered" if not error else "failed" if retry_in_s is None else "pending"
    try:
        async with app_state.sessions.begin() as session:
            await queries.end_attempt(
                session, delivery.id, delivery.attempts,
                status=outcome, response_status=status, error=error, retry_in_s=retry_in_s,
            )  # fmt: skip
    except (SQLAlchemyError, OSError) as lost:
        log.warning("the outcome of delivery %s is not stored: %s; it is sent again", delivery.id, type(lost).__name__)


async def _send(app_state: AppState, client: httpx.AsyncClient, delivery: ClaimedDelivery) -> int:
    """The status of the response. Raises DeliveryFailed, DecryptionError."""
    url = connection.parse_url(delivery.url)
    addresses = await connection.resolve(url)
    connection.require_allowed(url, addresses, app_state.settings.webhook_networks)
    secret = open_secret(app_state.keyring, delivery.account_id, delivery.webhook_id, delivery.encrypted_secret)
    body = _body(delivery)
    timestamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Unveil",
        "webhook-id": delivery.id,
        "webhook-timestamp": timestamp,
        "webhook-signature": sign(secret, delivery.id, timestamp, body),
    }
    return await connection.post(client, url, addresses, headers, body)


def sign(secret: bytes, id: str, timestamp: str, body: bytes) -> str:
    """The header webhook-signature."""
    digest = hmac.digest(secret, f"{id}.{timestamp}.".encode() + body, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


def _body(delivery: ClaimedDelivery) -> bytes:
    evaluation = {
        "id": delivery.evaluation_id,
        "name": delivery.name,
        "status": delivery.status,
        "finished_at": delivery.finished_at.isoformat(),
    }
    event = {"type": delivery.event, "created_at": delivery.created_at.isoformat(), "data": evaluation}
    return json.dumps(event, ensure_ascii=False).encode()
