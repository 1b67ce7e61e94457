"""All SQL of keys, always by owner. Never commits. Workers use it too, so FastAPI is imported inside functions only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from unveil.app.db.ids import is_id
from unveil.app.db.job_states import ACTIVE, Status
from unveil.app.db.tables import Cell, Key
from unveil.app.rpc.messages import Rejection, RequestRejected

if TYPE_CHECKING:
    from unveil.app.http.pagination import PageRequest


async def insert_if_absent(session: AsyncSession, values: dict[str, Any]) -> Key:
    """Leaves an existing key with this id unchanged, because a request may be repeated."""
    await session.execute(insert(Key).values(**values).on_conflict_do_nothing(index_elements=[Key.id]))
    return (await session.execute(select(Key).where(Key.id == values["id"]))).scalar_one()


async def get_many(session: AsyncSession, owner: str, ids: Sequence[str]) -> dict[str, Key]:
    rows = await session.scalars(select(Key).where(Key.account_id == owner, Key.id.in_(filter(is_id, ids))))
    return {row.id: row for row in rows}


async def list_page(session: AsyncSession, owner: str, paging: PageRequest) -> Sequence[Key]:
    from unveil.app.http.pagination import apply_cursor

    statement = select(Key).where(Key.account_id == owner, Key.destroyed_at.is_(None))
    return (await session.scalars(apply_cursor(statement, Key.id, paging))).all()


async def get_for_share(session: AsyncSession, owner: str, id: str) -> Key | None:
    """Locks the row for a request that names it, so that it is not destroyed before the request commits."""
    query = select(Key).where(Key.account_id == owner, Key.id == id).with_for_update(read=True, key_share=True)
    return await session.scalar(query) if is_id(id) else None


async def lock_for_destruction(session: AsyncSession, id: str) -> None:
    """Waits until every request that names the key has committed; other requests wait for this commit."""
    await session.execute(select(Key.id).where(Key.id == id).with_for_update())


async def evaluation_using(session: AsyncSession, id: str) -> str | None:
    """The id of an evaluation with an active cell under the key."""
    uses = select(Cell.evaluation_id).where(Cell.scheme["key_id"].astext == id, Cell.status.in_(ACTIVE))
    return await session.scalar(uses.limit(1))


async def destroy(session: AsyncSession, id: str) -> None:
    """Delete the secret. The row stays: it records the destruction and names the blob that is still to be deleted."""
    await session.execute(
        update(Key)
        .where(Key.id == id)
        .values(encrypted_secret=None, wrapped_key=None, destroyed_at=func.clock_timestamp())
    )


async def clear_blob(session: AsyncSession, id: str) -> None:
    await session.execute(update(Key).where(Key.id == id).values(weights_blob=None))


def use_keys(
    session: Session,
    owner: str,
    key_ids: Sequence[str],
    new_secrets: Mapping[str, bytes],
    new_values: Mapping[str, Any],
) -> dict[str, Key]:
    """Lock the keys, count one use for each item of `key_ids`, and return the rows by id.

    new_secrets: encrypted secrets of keys to insert, by id; new_values: their other columns. A key that an earlier
    attempt of the same request inserted keeps its secret and its count. The caller commits. Raises RequestRejected.
    """
    uses = Counter(key_ids)
    rows = [
        {"id": id, "account_id": owner, "encrypted_secret": new_secrets[id], "uses": uses[id], **new_values}
        for id in sorted(new_secrets)
    ]
    if rows:
        session.execute(insert(Key).on_conflict_do_nothing(index_elements=[Key.id]), rows)
    # Locked in one order, so that two requests cannot deadlock.
    query = select(Key).where(Key.id.in_(uses), Key.account_id == owner).order_by(Key.id).with_for_update()
    keys = {key.id: key for key in session.scalars(query)}
    for id in uses:
        _reject_unusable(id, keys.get(id))
        if id not in new_secrets:
            keys[id].uses += uses[id]
    return keys


def _reject_unusable(id: str, key: Key | None) -> None:
    if key is None:
        raise RequestRejected([Rejection("unknown_key", "/key_id", f"there is no key {id}")])
    if key.destroyed_at is not None:
        raise key_destroyed(id)
    if key.status != Status.SUCCEEDED:
        raise RequestRejected([Rejection("key_not_ready", "/key_id", f"{id} is not ready")])


def key_destroyed(id: str) -> RequestRejected:
    return RequestRejected([Rejection("key_destroyed", "/key_id", f"{id} was destroyed")])
