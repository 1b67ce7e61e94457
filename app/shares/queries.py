"""All SQL of share links. Those of an evaluation are found by its owner's query, a single one by its keyed hash."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.db.tables import Account, Evaluation, Share


async def add(session: AsyncSession, id: str, digest: bytes, evaluation_id: str, days: int, images: bool) -> Share:
    expires_at = func.clock_timestamp() + timedelta(days=days)
    share = Share(id=id, hash=digest, evaluation_id=evaluation_id, expires_at=expires_at, images=images)
    session.add(share)
    await session.flush()
    await session.refresh(share)
    return share


async def list_live(session: AsyncSession, evaluation_id: str) -> Sequence[Share]:
    """Newest first."""
    live = Share.evaluation_id == evaluation_id, Share.expires_at > func.clock_timestamp()
    return (await session.scalars(select(Share).where(*live).order_by(Share.id.desc()))).all()


async def delete_expired(session: AsyncSession, evaluation_id: str) -> None:
    expired = Share.evaluation_id == evaluation_id, Share.expires_at <= func.clock_timestamp()
    await session.execute(delete(Share).where(*expired))


async def delete_share(session: AsyncSession, evaluation_id: str, id: str) -> bool:
    """Whether there was one."""
    statement = delete(Share).where(Share.evaluation_id == evaluation_id, Share.id == id).returning(Share.id)
    return (await session.scalars(statement)).one_or_none() is not None


async def find_live(session: AsyncSession, digest: bytes) -> tuple[Share, Evaluation, str] | None:
    """The share, its evaluation and the name of the account; None if it expired or the account is revoked."""
    statement = (
        select(Share, Evaluation, Account.name)
        .join(Evaluation, Evaluation.id == Share.evaluation_id)
        .join(Account, Account.id == Evaluation.account_id)
        .where(Share.hash == digest, Share.expires_at > func.clock_timestamp(), Account.revoked_at.is_(None))
    )
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else (row[0], row[1], row[2])
