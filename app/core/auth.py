"""Who calls, and what they may do: bearer tokens for programs, a session cookie for the dashboard. Default deny."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.crypto import KeyRing
from app.core.limits import check_rate
from app.core.logging import account_id
from app.core.problems import Forbidden, Unauthenticated
from app.core.services import Session, Svc
from app.db.tables import Account, DashboardSession, Token

Scope = Literal["encrypt", "keys", "keys:export", "evaluate", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
SESSION_COOKIE = "unveil_session"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Caller:
    account_id: str
    name: str
    scopes: frozenset[str]


class CrossSite(Forbidden):
    code, title = "cross_site", "The request comes from another site"


_bearer = HTTPBearer(auto_error=False, description="An API token, as `unveil accounts create` prints it once.")


async def caller_of_token(session: AsyncSession, ring: KeyRing, token: str) -> Caller | None:
    """The account that a bearer token speaks for; None when it is unknown or revoked."""
    digest = ring.token_hash(token)
    row = (
        await session.execute(
            select(Token.hash, Token.scopes, Account.id, Account.name)
            .join(Account, Account.id == Token.account_id)
            .where(Token.hash == digest, Token.revoked_at.is_(None), Account.revoked_at.is_(None))
        )
    ).one_or_none()
    # The index already matched a keyed hash that a caller cannot steer; the comparison itself leaks nothing either.
    if row is None or not hmac.compare_digest(row.hash, digest):
        return None
    return Caller(row.id, row.name, frozenset(row.scopes))


async def caller_of_session(session: AsyncSession, ring: KeyRing, cookie: str) -> Caller | None:
    """The account signed in on a dashboard; None when the session is unknown or over."""
    digest = ring.token_hash(cookie)
    row = (
        await session.execute(
            select(DashboardSession.hash, DashboardSession.scopes, Account.id, Account.name)
            .join(Account, Account.id == DashboardSession.account_id)
            .where(
                DashboardSession.hash == digest,
                DashboardSession.expires_at > func.clock_timestamp(),
                Account.revoked_at.is_(None),
            )
        )
    ).one_or_none()
    if row is None or not hmac.compare_digest(row.hash, digest):
        return None
    return Caller(row.id, row.name, frozenset(row.scopes))


def refuse_cross_site(request: Request) -> None:
    """A browser sends cookies by itself, so a change asked for with one must come from our own pages."""
    if request.method in _SAFE:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        ours = site in ("same-origin", "none")
    else:
        ours = origin is not None and urlsplit(origin).netloc == request.headers.get("host")
    if not ours:
        raise CrossSite("a dashboard session changes things only from the dashboard's own pages")


async def find_caller(
    request: Request,
    svc: Svc,
    session: Session,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller | None:
    """The caller, or None where nobody is signed in (pages that then show a sign-in form)."""
    cookie = request.cookies.get(SESSION_COOKIE)
    caller = None
    if credentials is not None:
        caller = await caller_of_token(session, svc.ring, credentials.credentials)
    elif cookie:
        caller = await caller_of_session(session, svc.ring, cookie)
        if caller is not None:
            refuse_cross_site(request)
    # The look-up's transaction ends here: a request that waits for a worker holds no database connection meanwhile.
    await session.rollback()
    if caller is not None:
        account_id.set(caller.account_id)
        request.state.account_id = caller.account_id
        await check_rate(svc, caller.account_id)
    return caller


MaybeCaller = Annotated[Caller | None, Depends(find_caller)]


def needs(*scopes: Scope) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, who has every one of these scopes."""

    async def authorised(caller: MaybeCaller) -> Caller:
        if caller is None:
            raise Unauthenticated(
                "send `Authorization: Bearer TOKEN` with a token that is not revoked",
                headers={"WWW-Authenticate": 'Bearer realm="unveil"'},
            )
        missing = [scope for scope in scopes if scope not in caller.scopes]
        if missing:
            raise Forbidden(f"this needs the scope {', '.join(missing)}, which the token of {caller.name} lacks")
        return caller

    return authorised


Encryptor = Annotated[Caller, Depends(needs("encrypt"))]
KeyKeeper = Annotated[Caller, Depends(needs("keys"))]
KeyExporter = Annotated[Caller, Depends(needs("keys", "keys:export"))]
Auditor = Annotated[Caller, Depends(needs("evaluate"))]
Reader = Annotated[Caller, Depends(needs("read"))]
Admin = Annotated[Caller, Depends(needs("admin"))]
