"""All SQL of accounts, tokens, sign-in codes and dashboard sessions. Never commits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.db.tables import Account, DashboardSession, SignInCode, Token
from unveil.app.http.pagination import PageRequest, apply_cursor


async def add_account(session: AsyncSession, id: str, name: str) -> Account | None:
    """None when the name is taken."""
    statement = insert(Account).values(id=id, name=name).on_conflict_do_nothing().returning(Account)
    return (await session.execute(statement)).scalar_one_or_none()


async def add_token(session: AsyncSession, digest: bytes, account_id: str, scopes: Sequence[str]) -> None:
    """A token that is there already keeps its hash and gets these scopes."""
    statement = insert(Token).values(hash=digest, account_id=account_id, scopes=list(scopes))
    await session.execute(
        statement.on_conflict_do_update(index_elements=[Token.hash], set_={"scopes": list(scopes), "revoked_at": None})
    )


async def get_account(session: AsyncSession, id_or_name: str) -> Account | None:
    if "\0" in id_or_name:  # a database refuses it
        return None
    matches = or_(Account.id == id_or_name, Account.name == id_or_name)
    # an account may be named like another's id; the id wins
    statement = select(Account).where(matches).order_by((Account.id == id_or_name).desc()).limit(1)
    return (await session.execute(statement)).scalar_one_or_none()


async def list_accounts(session: AsyncSession, paging: PageRequest) -> Sequence[Account]:
    return (await session.scalars(apply_cursor(select(Account), Account.id, paging))).all()


async def get_scopes(session: AsyncSession, account_ids: Sequence[str]) -> dict[str, set[str]]:
    """By account what its tokens may do; of a revoked account, what they could."""
    scopes_by_account: dict[str, set[str]] = {id: set() for id in account_ids}
    statement = select(Token.account_id, Token.scopes).where(Token.account_id.in_(account_ids))
    for account_id, scopes in await session.execute(statement):
        scopes_by_account[account_id].update(scopes)
    return scopes_by_account


async def live_scopes_of(session: AsyncSession, account_id: str) -> set[str]:
    """The scopes of the account's tokens that are not revoked."""
    scopes = select(func.unnest(Token.scopes)).where(Token.account_id == account_id, Token.revoked_at.is_(None))
    return set(await session.scalars(scopes))


async def revoke(session: AsyncSession, account_id: str) -> None:
    now = func.clock_timestamp()
    first = func.coalesce(Account.revoked_at, now)
    await session.execute(update(Account).where(Account.id == account_id).values(revoked_at=first))
    live = Token.account_id == account_id, Token.revoked_at.is_(None)
    await session.execute(update(Token).where(*live).values(revoked_at=now))
    await session.execute(delete(DashboardSession).where(DashboardSession.account_id == account_id))
    await session.execute(delete(SignInCode).where(SignInCode.account_id == account_id))


async def add_sign_in_code(
    session: AsyncSession, digest: bytes, account_id: str, scopes: Sequence[str], minutes: int
) -> None:
    expires = func.clock_timestamp() + timedelta(minutes=minutes)
    session.add(SignInCode(hash=digest, account_id=account_id, scopes=list(scopes), expires_at=expires))
    await session.flush()


async def consume_sign_in_code(session: AsyncSession, digest: bytes) -> SignInCode | None:
    """The code, marked as used; None when it is unknown, used or too old. Of two uses at once one gets it."""
    now = func.clock_timestamp()
    live = SignInCode.hash == digest, SignInCode.used_at.is_(None), SignInCode.expires_at > now
    statement = update(SignInCode).where(*live).values(used_at=now).returning(SignInCode)
    return (await session.execute(statement)).scalar_one_or_none()


async def add_dashboard_session(
    session: AsyncSession, digest: bytes, account_id: str, scopes: Sequence[str], hours: int
) -> None:
    expires = func.clock_timestamp() + timedelta(hours=hours)
    session.add(DashboardSession(hash=digest, account_id=account_id, scopes=list(scopes), expires_at=expires))
    await session.flush()


async def delete_dashboard_session(session: AsyncSession, digest: bytes) -> None:
    await session.execute(delete(DashboardSession).where(DashboardSession.hash == digest))
