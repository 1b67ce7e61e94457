"""All SQL of accounts, tokens, sign-in codes and dashboard sessions. Never commits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.db.ids import new_id
from unveil.app.db.tables import Account, DashboardSession, SignInCode, Token, Webhook
from unveil.app.http.pagination import PageRequest, apply_cursor


async def add_account(
    session: AsyncSession, id: str, name: str, max_cost_core_hours: float | None = None
) -> Account | None:
    """None when the name is taken."""
    values = {"id": id, "name": name, "max_cost_core_hours": max_cost_core_hours}
    statement = insert(Account).values(values).on_conflict_do_nothing().returning(Account)
    return (await session.execute(statement)).scalar_one_or_none()


async def add_token(
    session: AsyncSession, digest: bytes, account_id: str, scopes: Sequence[str], *, label: str = ""
) -> Token:
    token = Token(id=new_id("tok"), hash=digest, account_id=account_id, scopes=list(scopes), label=label)
    session.add(token)
    await session.flush()
    return token


async def get_token(session: AsyncSession, digest: bytes) -> Token | None:
    return await session.get(Token, digest)


async def list_tokens(session: AsyncSession, account_id: str | None) -> Sequence[tuple[Token, str]]:
    """Tokens with the names of their accounts; of every account where `account_id` is None."""
    statement = select(Token, Account.name).join(Account, Account.id == Token.account_id).order_by(Token.created_at)
    if account_id is not None:
        statement = statement.where(Token.account_id == account_id)
    return [(token, name) for token, name in await session.execute(statement)]


async def revoke_token(session: AsyncSession, id: str) -> bool:
    """False where there is no such token."""
    first = func.coalesce(Token.revoked_at, func.clock_timestamp())
    statement = update(Token).where(Token.id == id).values(revoked_at=first).returning(Token.id)
    return await session.scalar(statement) is not None


async def revoke_tokens(session: AsyncSession, account_id: str, *, label: str) -> None:
    live = Token.account_id == account_id, Token.label == label, Token.revoked_at.is_(None)
    await session.execute(update(Token).where(*live).values(revoked_at=func.clock_timestamp()))


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
    """By account the scopes of its live tokens; of a revoked account, the scopes that its tokens had."""
    scopes_by_account: dict[str, set[str]] = {id: set() for id in account_ids}
    statement = select(Token.account_id, Token.scopes).join(Account, Account.id == Token.account_id)
    statement = statement.where(
        Token.account_id.in_(account_ids), Token.revoked_at.is_(None) | Account.revoked_at.is_not(None)
    )
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


async def delete_webhooks(session: AsyncSession, account_id: str) -> None:
    """With their deliveries."""
    await session.execute(delete(Webhook).where(Webhook.account_id == account_id))


async def add_sign_in_code(
    session: AsyncSession, digest: bytes, account_id: str, scopes: Sequence[str], minutes: int
) -> None:
    expires = func.clock_timestamp() + timedelta(minutes=minutes)
    session.add(SignInCode(hash=digest, account_id=account_id, scopes=list(scopes), expires_at=expires))
    await session.flush()


async def get_account_of_code(session: AsyncSession, digest: bytes) -> Account | None:
    """None when the code is unknown, used or expired, or the account is revoked."""
    statement = select(Account).join(SignInCode, SignInCode.account_id == Account.id)
    live = SignInCode.hash == digest, SignInCode.used_at.is_(None), SignInCode.expires_at > func.clock_timestamp()
    return (await session.execute(statement.where(*live, Account.revoked_at.is_(None)))).scalar_one_or_none()


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
