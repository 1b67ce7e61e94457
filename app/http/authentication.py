"""Authentication and scopes: bearer tokens for programs, a session cookie for the dashboard. Default deny."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.params import File, Form
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from sqlalchemy import ARRAY, Executable, LargeBinary, any_, bindparam, exists, func, select
from starlette.responses import Response
from structlog.contextvars import bind_contextvars

from unveil.app.db.tables import Account, DashboardSession, Token
from unveil.app.dependencies import AppState, get_app_state
from unveil.app.errors.problem import CrossSite, Forbidden, Invalid, Unauthenticated
from unveil.app.http.limits import reject_oversized_json, require_json_content_type, require_multipart_content_type
from unveil.app.http.strict_request import StrictRequest
from unveil.app.security.principal import Principal, Scope
from unveil.app.settings import Settings

SESSION_COOKIE = "unveil_session"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


_bearer = HTTPBearer(auto_error=False, description="The API token that `unveil accounts create` printed.")

# The hashes are keyed, so a client cannot choose them, and the lookup leaks nothing useful through its duration.
_HASHES = any_(bindparam("keys", type_=ARRAY(LargeBinary)))
_SELECT_PRINCIPAL_BY_TOKEN = (
    select(Token.hash, Token.scopes, Account.id, Account.name)
    .join(Account, Account.id == Token.account_id)
    .where(Token.hash == _HASHES, Token.revoked_at.is_(None), Account.revoked_at.is_(None))
)
_scope = func.unnest(DashboardSession.scopes).column_valued("scope")
_live_token = (
    exists()
    .where(Token.account_id == DashboardSession.account_id, Token.revoked_at.is_(None), _scope == any_(Token.scopes))
    .correlate_except(Token)
)
# The current scopes of a session: those it was opened with that a live token of its account still has.
_session_scopes = func.array(select(_scope).where(_live_token).correlate(DashboardSession).scalar_subquery())
_SELECT_PRINCIPAL_BY_SESSION = (
    select(DashboardSession.hash, _session_scopes.label("scopes"), Account.id, Account.name)
    .join(Account, Account.id == DashboardSession.account_id)
    .where(
        DashboardSession.hash == _HASHES,
        DashboardSession.expires_at > func.clock_timestamp(),
        Account.revoked_at.is_(None),
    )
)


def session_cookie_name(settings: Settings) -> str:
    """The browser accepts a `__Host-` cookie only with Secure, for this host alone and for every path."""
    return f"__Host-{SESSION_COOKIE}" if settings.secure_cookies else SESSION_COOKIE


async def principal_from_token(app_state: AppState, token: str) -> Principal | None:
    """None if the token is unknown or revoked."""
    return await _load_principal(app_state, _SELECT_PRINCIPAL_BY_TOKEN, token)


async def principal_from_session(app_state: AppState, cookie: str) -> Principal | None:
    """None if the session is unknown or expired, or no live token of its account has one of its scopes."""
    principal = await _load_principal(app_state, _SELECT_PRINCIPAL_BY_SESSION, cookie)
    return principal if principal and principal.scopes else None


async def _load_principal(app_state: AppState, statement: Executable, secret: str) -> Principal | None:
    row = await app_state.loader.load(statement, app_state.keyring.token_hash(secret))
    return row and Principal(row.id, row.name, frozenset(row.scopes))


def reject_cross_site(request: Request) -> None:
    """CSRF protection: a browser attaches the cookie to requests of any site. Raises CrossSite."""
    if request.method in _SAFE_METHODS:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        is_same_site = site in ("same-origin", "none")
    else:
        is_same_site = origin is not None and urlsplit(origin).netloc == request.headers.get("host")
    if not is_same_site:
        raise CrossSite("with a dashboard session, only pages of the dashboard may make changes; send a token instead")


async def resolve_principal(request: Request) -> Principal | None:
    """The current owner of the token or the session of this request; event streams check it repeatedly."""
    app_state = get_app_state(request)
    cookie = request.cookies.get(session_cookie_name(app_state.settings))
    if _authorization_scheme(request) == "bearer":
        return await principal_from_token(app_state, request.headers["authorization"].partition(" ")[2].strip())
    if cookie and not _authorization_scheme(request):
        return await principal_from_session(app_state, cookie)
    return None


def _authorization_scheme(request: Request) -> str:
    return request.headers.get("authorization", "").partition(" ")[0].lower()


async def authenticate(request: Request) -> Principal | None:
    """The principal, or None for an anonymous request. Counts the request. Raises TooMany, CrossSite.

    Runs once for each request, and keeps no database connection while the request waits for a worker.
    """
    if hasattr(request.state, "principal"):
        cached: Principal | None = request.state.principal
        return cached
    app_state = get_app_state(request)
    principal = await resolve_principal(request)
    if principal is None:
        await rate_limit_anonymous(request)
    else:
        bind_contextvars(account_id=principal.account_id)
        await app_state.rate_limiter.hit(principal.account_id, app_state.settings.requests_per_second, "an account")
        app_state.concurrency_limiter.record_activity(principal.account_id)
        if not _authorization_scheme(request):
            reject_cross_site(request)
    request.state.principal = principal
    return principal


async def rate_limit_anonymous(request: Request) -> None:
    """Counts a request without a valid token against its address. Raises TooMany."""
    app_state = get_app_state(request)
    address = request.client.host if request.client else "unknown"
    await app_state.rate_limiter.hit(
        f"address:{address}", app_state.settings.anonymous_requests_per_second, "an address without a valid token"
    )


async def optional_principal(
    request: Request,
    _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],  # for the OpenAPI document
) -> Principal | None:
    """For routes that anonymous clients may use too."""
    return await authenticate(request)


OptionalPrincipal = Annotated[Principal | None, Depends(optional_principal)]


@dataclass(frozen=True)
class RequireScopes:
    """A dependency: the principal, which must have all of these scopes."""

    scopes: tuple[Scope, ...]

    async def __call__(self, principal: OptionalPrincipal) -> Principal:
        return self.check(principal)

    def check(self, principal: Principal | None) -> Principal:
        """Raises Unauthenticated, Forbidden."""
        if principal is None:
            raise Unauthenticated(
                "send `Authorization: Bearer TOKEN` with a valid token",
                headers={"WWW-Authenticate": 'Bearer realm="unveil"'},
            )
        missing = [scope for scope in self.scopes if scope not in principal.scopes]
        if missing:
            raise Forbidden(f"the token of {principal.name} lacks the scope {', '.join(missing)}")
        return principal


class AuthenticatedRoute(APIRoute):
    """Authenticates before it reads the body; rejects unknown and repeated query parameters, truncated forms and JSON
    with too many values.
    """

    ignores_unknown_query: ClassVar[bool] = False

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle, requirements = super().get_route_handler(), list(_iter_requirements(self.dependant))
        query_names = list(_iter_query_names(self.dependant))

        async def authenticate_and_handle(received: Request) -> Response:
            request = StrictRequest(received.scope, received.receive)
            if requirements:
                principal = await authenticate(request)
                for requirement in requirements:
                    requirement.check(principal)
            if not self.ignores_unknown_query:
                _check_query(request, query_names)
            body = None if self.body_field is None else self.body_field.field_info
            if isinstance(body, File):
                require_multipart_content_type(request.headers.get("content-type", ""))
            elif body is not None and not isinstance(body, Form):
                require_json_content_type(request.headers.get("content-type", ""))
                reject_oversized_json(await request.body())
            return await handle(request)

        return authenticate_and_handle


def _check_query(request: Request, known: Sequence[str]) -> None:
    """Raises Invalid: a parameter that is misspelt or given twice would be dropped silently."""
    given = [name for name, _ in request.query_params.multi_items()]
    listed = ", ".join(known) or "none"
    unknown = [name for name in dict.fromkeys(given) if name not in known]
    errors = [(f"/query/{name}", f"unknown parameter; known: {listed}") for name in unknown]
    errors += [(f"/query/{name}", "give it once") for name in known if given.count(name) > 1]
    if errors:
        raise Invalid("the query has parameters that cannot be used; see errors", errors)


def _iter_query_names(dependant: Dependant) -> Iterator[str]:
    yield from (parameter.alias for parameter in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _iter_query_names(inner)


def _iter_requirements(dependant: Dependant) -> Iterator[RequireScopes]:
    if isinstance(dependant.call, RequireScopes):
        yield dependant.call
    for inner in dependant.dependencies:
        yield from _iter_requirements(inner)


def required_scopes(dependant: Dependant) -> list[Scope]:
    return [scope for requirement in _iter_requirements(dependant) for scope in requirement.scopes]


EncryptPrincipal = Annotated[Principal, Depends(RequireScopes(("encrypt",)))]
KeysPrincipal = Annotated[Principal, Depends(RequireScopes(("keys",)))]
KeyExportPrincipal = Annotated[Principal, Depends(RequireScopes(("keys", "keys:export")))]
EvaluatePrincipal = Annotated[Principal, Depends(RequireScopes(("evaluate",)))]
ReadPrincipal = Annotated[Principal, Depends(RequireScopes(("read",)))]
AdminPrincipal = Annotated[Principal, Depends(RequireScopes(("admin",)))]
