"""All SQL of webhooks, by owner, and of the deliveries that the sender claims. Nothing here commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.db.ids import is_id
from unveil.app.db.tables import Account, Evaluation, Webhook, WebhookDelivery
from unveil.app.http.pagination import PageRequest, apply_cursor


@dataclass(frozen=True)
class ClaimedDelivery:
    """A delivery to be sent, with its webhook and its evaluation."""

    id: str
    attempts: int  # with the one that is claimed
    event: str
    created_at: datetime
    webhook_id: str
    url: str
    encrypted_secret: bytes
    account_id: str
    evaluation_id: str
    name: str
    status: str
    finished_at: datetime


async def add(
    session: AsyncSession, id: str, account_id: str, url: str, events: Sequence[str], encrypted_secret: bytes
) -> Webhook:
    webhook = Webhook(id=id, account_id=account_id, url=url, events=list(events), encrypted_secret=encrypted_secret)
    session.add(webhook)
    await session.flush()
    await session.refresh(webhook)
    return webhook


async def get(session: AsyncSession, account_id: str, id: str) -> Webhook | None:
    query = select(Webhook).where(Webhook.account_id == account_id, Webhook.id == id)
    return await session.scalar(query) if is_id(id) else None


async def list_newest(session: AsyncSession, account_id: str) -> Sequence[Webhook]:
    query = select(Webhook).where(Webhook.account_id == account_id).order_by(Webhook.id.desc())
    return (await session.scalars(query)).all()


async def delete_webhook(session: AsyncSession, account_id: str, id: str) -> bool:
    """Whether there was one. Its deliveries end with it."""
    query = delete(Webhook).where(Webhook.account_id == account_id, Webhook.id == id).returning(Webhook.id)
    return is_id(id) and await session.scalar(query) is not None


async def list_deliveries(session: AsyncSession, webhook_id: str, paging: PageRequest) -> Sequence[WebhookDelivery]:
    query = select(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id)
    return (await session.scalars(apply_cursor(query, WebhookDelivery.id, paging))).all()


async def claim_due(
    session: AsyncSession, *, limit: int, limit_per_account: int, lease_s: float
) -> list[ClaimedDelivery]:
    """Take deliveries that are due, oldest first, for `lease_s`: a process that dies leaves them to the next one."""
    now = func.clock_timestamp()
    turn = func.row_number().over(partition_by=Webhook.account_id, order_by=WebhookDelivery.next_attempt_at)
    due = (
        select(WebhookDelivery.id, turn.label("turn"))
        .join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
        .join(Account, Account.id == Webhook.account_id)
        .where(WebhookDelivery.next_attempt_at <= now, Account.revoked_at.is_(None))
        .subquery()
    )
    lock = (
        select(WebhookDelivery.id)
        .where(
            WebhookDelivery.id.in_(select(due.c.id).where(due.c.turn <= limit_per_account)),
            WebhookDelivery.next_attempt_at <= now,  # again on the locked row: another process may have claimed it
        )
        .order_by(WebhookDelivery.next_attempt_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = (await session.scalars(lock)).all()
    if not ids:
        return []
    lease = {"attempts": WebhookDelivery.attempts + 1, "next_attempt_at": now + timedelta(seconds=lease_s)}
    await session.execute(update(WebhookDelivery).where(WebhookDelivery.id.in_(ids)).values(lease))
    claimed = (
        select(
            WebhookDelivery.id, WebhookDelivery.attempts, WebhookDelivery.event, WebhookDelivery.created_at,
            WebhookDelivery.webhook_id, Webhook.url, Webhook.encrypted_secret, Webhook.account_id,
            WebhookDelivery.evaluation_id, Evaluation.name, Evaluation.status, Evaluation.finished_at,
        )
        .join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
        .join(Evaluation, Evaluation.id == WebhookDelivery.evaluation_id)
        .where(WebhookDelivery.id.in_(ids))
    )  # fmt: skip
    return [ClaimedDelivery(**row._asdict()) for row in await session.execute(claimed)]


async def end_attempt(
    session: AsyncSession,
    id: str,
    attempts: int,
    *,
    status: str,
    response_status: int | None,
    error: str,
    retry_in_s: float | None,
) -> None:
    """Store the outcome of one attempt; nothing if a later attempt has begun. retry_in_s None ends the delivery."""
    now = func.clock_timestamp()
    values = {
        "status": status,
        "response_status": response_status,
        "error": error,
        "next_attempt_at": None if retry_in_s is None else now + timedelta(seconds=retry_in_s),
        "finished_at": now if retry_in_s is None else None,
    }
    fence = WebhookDelivery.id == id, WebhookDelivery.attempts == attempts
    await session.execute(update(WebhookDelivery).where(*fence).values(values))
