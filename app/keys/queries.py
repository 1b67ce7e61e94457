"""All SQL of keys, always by owner. Never commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.db.ids import is_id
from unveil.app.db.tables import Key
from unveil.app.http.pagination import PageRequest, apply_cursor


async def insert_if_absent(session: AsyncSession, values: dict[str, Any]) -> Key:
    """A key that is there already under this id stays as it is: a request may be repeated."""
    await session.execute(insert(Key).values(**values).on_conflict_do_nothing(index_elements=[Key.id]))
    return (await session.execute(select(Key).where(Key.id == values["id"]))).scalar_one()


async def get_many(session: AsyncSession, owner: str, ids: Sequence[str]) -> dict[str, Key]:
    rows = await session.scalars(select(Key).where(Key.account_id == owner, Key.id.in_(filter(is_id, ids))))
    return {row.id: row for row in rows}


async def list_page(session: AsyncSession, owner: str, paging: PageRequest) -> Sequence[Key]:
    statement = select(Key).where(Key.account_id == owner, Key.destroyed_at.is_(None))
    return (await session.scalars(apply_cursor(statement, Key.id, paging))).all()


async def destroy(session: AsyncSession, id: str) -> None:
    """The secret is gone with the commit; the row stays to say so, and to name the blob that is still to be deleted."""
    await session.execute(
        update(Key)
        .where(Key.id == id)
        .values(encrypted_secret=None, wrapped_key=None, destroyed_at=func.clock_timestamp())
    )


async def clear_blob(session: AsyncSession, id: str) -> None:
    await session.execute(update(Key).where(Key.id == id).values(weights_blob=None))
