"""All SQL of datasets, always by owner. Nothing here commits."""

from __future__ import annotations

from sqlalchemy import Select, Text, cast, delete, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.db.ids import is_id
from unveil.app.db.job_states import ACTIVE
from unveil.app.db.tables import Dataset, Evaluation, Key

_ACTIVE = [status.value for status in ACTIVE]


async def get(session: AsyncSession, account_id: str, id: str) -> Dataset | None:
    return await session.scalar(_select_dataset(account_id, id)) if is_id(id) else None


async def get_for_share(session: AsyncSession, account_id: str, id: str) -> Dataset | None:
    """Locks the row for a request that names it, so that it is not deleted before the request commits."""
    query = _select_dataset(account_id, id).with_for_update(read=True, key_share=True)
    return await session.scalar(query) if is_id(id) else None


async def get_for_update(session: AsyncSession, account_id: str, id: str) -> Dataset | None:
    """Locks the row for deletion: waits for requests that name it, and keeps new ones waiting."""
    return await session.scalar(_select_dataset(account_id, id).with_for_update()) if is_id(id) else None


def _select_dataset(account_id: str, id: str) -> Select[Dataset]:
    return select(Dataset).where(Dataset.account_id == account_id, Dataset.id == id)


async def list_newest(session: AsyncSession, account_id: str, after: str | None, limit: int) -> list[Dataset]:
    """At most `limit` of the account's uploads, from the one after `after`."""
    query = select(Dataset).where(Dataset.account_id == account_id).order_by(Dataset.id.desc()).limit(limit)
    if after is not None:
        query = query.where(Dataset.id < after)
    return list(await session.scalars(query))


async def is_in_use(session: AsyncSession, account_id: str, id: str) -> bool:
    """Whether an unfinished evaluation or training names it, anywhere in its settings."""
    quoted = f'%"{id}"%'
    evaluations = exists().where(
        Evaluation.account_id == account_id,
        Evaluation.finished_at.is_(None),
        cast(Evaluation.settings, Text).like(quoted),
    )
    trainings = exists().where(
        Key.account_id == account_id, Key.status.in_(_ACTIVE), cast(Key.training_request, Text).like(quoted)
    )
    return bool(await session.scalar(select(or_(evaluations, trainings))))


async def delete_dataset(session: AsyncSession, account_id: str, id: str) -> None:
    await session.execute(delete(Dataset).where(Dataset.account_id == account_id, Dataset.id == id))
