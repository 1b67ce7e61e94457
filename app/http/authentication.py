"""Who calls, and what they may do: bearer tokens for programs, a session cookie for the dashboard. Default deny."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.params import File, Form
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from sqlalchemy import ARRAY, Executable, LargeBinary, any_, bindparam, exists, func, select
from starlette.responses import Response

from unveil.app.db.tables import Account, DashboardSession, Token
from unveil.app.dependencies import Services, services
from unveil.app.errors.problem import Forbidden, Unauthenticated
from unveil.app.http.limits import check_json, check_media, check_multipart
from unveil.app.http.strict_request import StrictRequest
from unveil.app.observability.logging import account_id
from unveil.app.security.principal import Caller, Scope

SESSION_COOKIE = "unveil_session"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class CrossSite(Forbidden):
    code, title = "cross_site", "The request comes from another site"


_bearer = HTTPBearer(auto_error=False, description="An API token, as `unveil accounts create` prints it once.")


# Looked up by hashes that are keyed: a caller cannot steer them, so the index tells nothing by its time.
_DIGESTS = any_(bindparam("keys", type_=ARRAY(LargeBinary)))
_OF_TOKEN = (
    select(Token.hash, Token.scopes, Account.id, Account.name)
    .join(Account, Account.id == Token.account_id)
    .where(Token.hash == _DIGESTS, Token.revoked_at.is_(None), Account.revoked_at.is_(None))
)
_scope = func.unnest(DashboardSession.scopes).column_valued("scope")
_live_token = (
    exists()
    .where(Token.account_id == DashboardSession.account_id, Token.revoked_at.is_(None), _scope == any_(Token.scopes))
    .correlate_except(Token)
)
# A session's scopes at this moment: those it was opened with that a live token of its account still has.
_session_scopes = func.array(select(_scope).where(_live_token).correlate(DashboardSession).scalar_subquery())
_OF_SESSION = (
    select(DashboardSession.hash, _session_scopes.label("scopes"), Account.id, Account.name)
    .join(Account, Account.id == DashboardSession.account_id)
    .where(
        DashboardSession.hash == _DIGESTS,
        DashboardSession.expires_at > func.clock_timestamp(),
        Account.revoked_at.is_(None),
    )
)


async def caller_of_token(svc: Services, token: str) -> Caller | None:
    """The account that a bearer token speaks for; None when it is unknown or revoked."""
    return await _caller(svc, _OF_TOKEN, token)


async def caller_of_session(svc: Services, cookie: str) -> Caller | None:
    """The account signed in on a dashboard; None when the session is unknown or over, or no live token backs it."""
    caller = await _caller(svc, _OF_SESSION, cookie)
    return caller if caller and caller.scopes else None


async def _caller(svc: Services, statement: Executable, secret: str) -> Caller | None:
    row = await svc.lookups.find(statement, svc.ring.token_hash(secret))
    return row and Caller(row.id, row.name, frozenset(row.scopes))


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


async def signed_in(request: Request) -> Caller | None:
    """Whose token or session the request bears, as of now: a stream asks again and again."""
    svc = services(request)
    cookie = request.cookies.get(SESSION_COOKIE)
    if _scheme(request) == "bearer":
        return await caller_of_token(svc, request.headers["authorization"].partition(" ")[2].strip())
    if cookie and not _scheme(request):
        return await caller_of_session(svc, cookie)
    return None


def _scheme(request: Request) -> str:
    return request.headers.get("authorization", "").partition(" ")[0].lower()


async def identify(request: Request) -> Caller | None:
    """The caller, or None where nobody is signed in. Counts the request. Raises TooMany, CrossSite.

    Looks once a request, and holds no database connection for it: it may wait for a worker next.
    """
    if hasattr(request.state, "caller"):
        found: Caller | None = request.state.caller
        return found
    svc = services(request)
    caller = await signed_in(request)
    if caller is None:
        await count_stranger(request)
    else:
        account_id.set(caller.account_id)
        request.state.account_id = caller.account_id
        await svc.rate.count(caller.account_id, svc.settings.requests_per_second, "an account")
        svc.turns.see(caller.account_id)
        if not _scheme(request):
            refuse_cross_site(request)
    request.state.caller = caller
    return caller


async def count_stranger(request: Request) -> None:
    """Count a request that shows no valid token, by its address. Raises TooMany."""
    svc = services(request)
    address = request.client.host if request.client else "unknown"
    await svc.rate.count(f"address:{address}", svc.settings.strangers_per_second, "an address without a valid token")


async def find_caller(
    request: Request,
    _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],  # for the OpenAPI document
) -> Caller | None:
    """For pages that show a sign-in form where nobody is signed in."""
    return await identify(request)


MaybeCaller = Annotated[Caller | None, Depends(find_caller)]


@dataclass(frozen=True)
class Needs:
    """A dependency: the caller, who has every one of these scopes."""

    scopes: tuple[Scope, ...]

    async def __call__(self, caller: MaybeCaller) -> Caller:
        return self.admit(caller)

    def admit(self, caller: Caller | None) -> Caller:
        """Raises Unauthenticated, Forbidden."""
        if caller is None:
            raise Unauthenticated(
                "send `Authorization: Bearer TOKEN` with a token that is not revoked",
                headers={"WWW-Authenticate": 'Bearer realm="unveil"'},
            )
        missing = [scope for scope in self.scopes if scope not in caller.scopes]
        if missing:
            raise Forbidden(f"this needs the scope {', '.join(missing)}, which the token of {caller.name} lacks")
        return caller


class CallerFirst(APIRoute):
    """A route that knows who calls before it reads a byte of the body, and takes no exploding JSON and no torn form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle, needed = super().get_route_handler(), list(_needs(self.dependant))

        async def admit_and_handle(received: Request) -> Response:
            request = StrictRequest(received.scope, received.receive)
            if needed:
                caller = await identify(request)
                for needs in needed:
                    needs.admit(caller)
            body = None if self.body_field is None else self.body_field.field_info
            if isinstance(body, File):
                check_multipart(request.headers.get("content-type", ""))
            elif body is not None and not isinstance(body, Form):
                check_media(request.headers.get("content-type", ""))
                check_json(await request.body())
            return await handle(request)

        return admit_and_handle


def _needs(dependant: Dependant) -> Iterator[Needs]:
    if isinstance(dependant.call, Needs):
        yield dependant.call
    for inner in dependant.dependencies:
        yield from _needs(inner)


def scopes_of(dependant: Dependant) -> list[Scope]:
    """What a route asks of its caller's token."""
    return [scope for needs in _needs(dependant) for scope in needs.scopes]


Encryptor = Annotated[Caller, Depends(Needs(("encrypt",)))]
KeyKeeper = Annotated[Caller, Depends(Needs(("keys",)))]
KeyExporter = Annotated[Caller, Depends(Needs(("keys", "keys:export")))]
Auditor = Annotated[Caller, Depends(Needs(("evaluate",)))]
Reader = Annotated[Caller, Depends(Needs(("read",)))]
Admin = Annotated[Caller, Depends(Needs(("admin",)))]
