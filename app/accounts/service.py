"""Rules of accounts. Used by the routes, by `unveil accounts`, by `unveil local` and by the dashboard's sign-in.

Tokens, codes and session cookies are 256 random bits; the database holds keyed hashes of them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.accounts import queries
from unveil.app.accounts.schemas import AccountCreated, AccountOut, TokenCreated, TokenOut
from unveil.app.db.ids import new_id
from unveil.app.db.tables import Account, Token
from unveil.app.errors.problem import AccountExists, BadSignInCode, Conflict, OwnAccount, UnknownAccount, UnknownToken
from unveil.app.http.pagination import Page, PageRequest, build_page
from unveil.app.jobs import cancellation
from unveil.app.security.envelope import Keyring
from unveil.app.security.principal import SCOPES, Scope

SESSION_HOURS = 12
LOCAL_TOKEN_LABEL = "unveil local"  # of the token in the state folder of `unveil local`


def new_token() -> str:
    return f"unveil_{secrets.token_urlsafe(32)}"


async def create(
    session: AsyncSession,
    keyring: Keyring,
    name: str,
    scopes: Sequence[Scope],
    *,
    id: str | None = None,
    max_cost_core_hours: float | None = None,
) -> AccountCreated:
    """A new account and its token, not yet committed. Raises AccountExists."""
    account = await queries.add_account(session, id or new_id("acct"), name, max_cost_core_hours)
    if account is None:
        raise AccountExists(f"an account named {name!r} already exists; choose another name", [("/name", "is taken")])
    token, unique = new_token(), sorted(set(scopes), key=SCOPES.index)
    await queries.add_token(session, keyring.token_hash(token), account.id, unique)
    return AccountCreated(**_to_account_out(account, unique).model_dump(), token=token)


async def ensure_local_token(session: AsyncSession, keyring: Keyring, name: str, token: str) -> bool:
    """Whether `token` authenticates the account of this name; creates the account, or the token, if it is unknown.

    A token that replaces the one of an earlier start revokes that one. What is revoked stays revoked. Commits.
    """
    account = await queries.add_account(session, new_id("acct"), name) or await queries.get_account(session, name)
    assert account is not None
    digest = keyring.token_hash(token)
    known = await queries.get_token(session, digest)
    if account.revoked_at is None and known is None:
        await queries.revoke_tokens(session, account.id, label=LOCAL_TOKEN_LABEL)
        await queries.add_token(session, digest, account.id, SCOPES, label=LOCAL_TOKEN_LABEL)
    await session.commit()
    return account.revoked_at is None and (known is None or known.revoked_at is None)


async def create_token(
    session: AsyncSession, keyring: Keyring, id_or_name: str, scopes: Sequence[Scope], label: str = ""
) -> TokenCreated:
    """A further token of an account. Commits. Raises UnknownAccount, Conflict where the account is revoked."""
    account = await get(session, id_or_name)
    if account.revoked_at is not None:
        raise Conflict(f"account {account.name!r} is revoked; create another account")
    token = new_token()
    row = await queries.add_token(
        session, keyring.token_hash(token), account.id, sorted(set(scopes), key=SCOPES.index), label=label
    )
    await session.commit()
    return TokenCreated(**_to_token_out(row, account.name).model_dump(), token=token)


async def list_tokens(session: AsyncSession, id_or_name: str | None = None) -> list[TokenOut]:
    """The tokens of one account, or of all, oldest first, revoked ones too. Raises UnknownAccount."""
    account = None if id_or_name is None else await get(session, id_or_name)
    return [
        _to_token_out(row, name) for row, name in await queries.list_tokens(session, account.id if account else None)
    ]


async def revoke_token(session: AsyncSession, id: str) -> None:
    """The token ends at once; sessions lose the scopes that no other token has. Repeating it is harmless. Commits.

    Raises UnknownToken.
    """
    if not await queries.revoke_token(session, id):
        raise UnknownToken(f"there is no token {id}; list them with `unveil tokens list`")
    await session.commit()


async def get(session: AsyncSession, id_or_name: str) -> Account:
    """Raises UnknownAccount."""
    account = await queries.get_account(session, id_or_name)
    if account is None:
        raise UnknownAccount(f"no account has the id or name {id_or_name!r}; list them with GET /accounts")
    return account


async def list_accounts(session: AsyncSession, paging: PageRequest) -> Page[AccountOut]:
    rows = await queries.list_accounts(session, paging)
    scopes = await queries.get_scopes(session, [row.id for row in rows])
    return build_page(rows, paging, lambda row: _to_account_out(row, scopes[row.id]), lambda row: row.id)


async def set_quota(session: AsyncSession, id_or_name: str, max_cost_core_hours: float | None) -> AccountOut:
    """Core hours that the account may use in 30 days; None: the service's default. Commits. Raises UnknownAccount."""
    account = await get(session, id_or_name)
    account.max_cost_core_hours = max_cost_core_hours
    await session.commit()
    scopes = await queries.get_scopes(session, [account.id])
    return _to_account_out(account, scopes[account.id])


async def revoke(session: AsyncSession, id_or_name: str, by: str | None = None) -> None:
    """Its tokens, sessions, jobs and webhooks end at once; what it owns stays. Repeating it is harmless. Commits.

    Raises UnknownAccount, OwnAccount.
    """
    account = await get(session, id_or_name)
    if account.id == by:
        raise OwnAccount("you would lock yourself out; ask another administrator, or use `unveil accounts revoke`")
    await queries.revoke(session, account.id)
    await session.run_sync(cancellation.cancel_jobs_of_account, account.id)
    # After the evaluations, in the order in which a worker that ends one locks them.
    await queries.delete_webhooks(session, account.id)
    await session.commit()


async def create_sign_in_code(session: AsyncSession, keyring: Keyring, account_id: str, minutes: int) -> str:
    """A one-use code that opens a dashboard session with the scopes of the account's live tokens. Commits.

    Raises Conflict where the account has no live token.
    """
    scopes = await _live_scopes(session, account_id)
    if not scopes:
        raise Conflict(f"account {account_id} has no valid token, so it cannot sign in")
    code = secrets.token_urlsafe(32)
    await queries.add_sign_in_code(session, keyring.token_hash(code), account_id, scopes, minutes)
    await session.commit()
    return code


async def account_of_code(session: AsyncSession, keyring: Keyring, code: str) -> Account:
    """The account that a sign-in code opens a session for; the code stays unused. Raises BadSignInCode."""
    account = await queries.get_account_of_code(session, keyring.token_hash(code))
    if account is None:
        raise BadSignInCode("create a new link with `unveil accounts sign-in NAME`")
    return account


async def open_session(session: AsyncSession, keyring: Keyring, code: str) -> str:
    """The cookie of a new dashboard session, for a sign-in code, which this consumes. Commits.

    Raises BadSignInCode, also where the account has no live token any more.
    """
    used_code = await queries.consume_sign_in_code(session, keyring.token_hash(code))
    live = [] if used_code is None else await _live_scopes(session, used_code.account_id)
    if used_code is None or not live:
        raise BadSignInCode("create a new link with `unveil accounts sign-in NAME`")
    scopes = [scope for scope in live if scope in used_code.scopes]
    return await open_session_for_account(session, keyring, used_code.account_id, scopes)


async def open_session_for_account(
    session: AsyncSession, keyring: Keyring, account_id: str, scopes: Sequence[str]
) -> str:
    """The cookie of a new dashboard session, for a caller who showed a token. Commits."""
    cookie = secrets.token_urlsafe(32)
    await queries.add_dashboard_session(session, keyring.token_hash(cookie), account_id, scopes, SESSION_HOURS)
    await session.commit()
    return cookie


async def _live_scopes(session: AsyncSession, account_id: str) -> list[str]:
    live = await queries.live_scopes_of(session, account_id)
    return [scope for scope in SCOPES if scope in live]


async def close_session(session: AsyncSession, keyring: Keyring, cookie: str) -> None:
    """Commits."""
    await queries.delete_dashboard_session(session, keyring.token_hash(cookie))
    await session.commit()


def _to_account_out(account: Account, scopes: Iterable[str]) -> AccountOut:
    return AccountOut.model_validate(
        {
            "id": account.id,
            "name": account.name,
            "scopes": sorted(scopes, key=list(SCOPES).index),
            "created_at": account.created_at,
            "revoked_at": account.revoked_at,
            "max_cost_core_hours": account.max_cost_core_hours,
        }
    )


def _to_token_out(token: Token, account: str) -> TokenOut:
    return TokenOut.model_validate(
        {
            "id": token.id,
            "account": account,
            "label": token.label,
            "scopes": sorted(token.scopes, key=list(SCOPES).index),
            "created_at": token.created_at,
            "revoked_at": token.revoked_at,
        }
    )
