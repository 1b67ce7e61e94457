"""The HTTP service (`uvicorn --factory unveil.app.main:create_app`): routers, middleware and error handlers."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import kombu.exceptions
import redis.exceptions
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unveil.app.accounts.routes import router as accounts
from unveil.app.catalog.routes import router as catalog
from unveil.app.dashboard.routes import router as dashboard
from unveil.app.datasets.routes import router as datasets
from unveil.app.db.ids import new_id
from unveil.app.dependencies import make_services
from unveil.app.encryption.routes import router as encryption
from unveil.app.errors.problem import (
    BadRequest,
    Forbidden,
    FullStorage,
    Invalid,
    LostStorage,
    MethodNotAllowed,
    NotFound,
    Problem,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)
from unveil.app.evaluations.routes import router as evaluations
from unveil.app.evaluations.sse import Streams
from unveil.app.http import docs
from unveil.app.http.idempotency import Replay
from unveil.app.http.limits import BodyLimit, SlowBody
from unveil.app.http.openapi import describe
from unveil.app.http.problems import problems, respond
from unveil.app.keys.routes import router as keys
from unveil.app.observability.logging import account_id, configure_logging, request_id
from unveil.app.ops import gc_tuning, health, metrics
from unveil.app.ops.heartbeat import present
from unveil.app.settings import Settings, get_settings
from unveil.app.storage import StorageFailed, StorageFull, failure
from unveil.models.core.version import __version__

logger = logging.getLogger(__name__)

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_ID = re.compile(r"([a-z]{1,16})_[0-9a-f]{32}")
_NAMES = {"ev": "evaluation", "ds": "dataset", "acct": "of_account"}
_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
_NO_HEAD = frozenset({"/sign-in"})  # its GET uses up a code, and whoever previews a link sends HEAD
_RETRY_S = 5
_SIGN_IN_BYTES = 4096  # anybody may send these
_COMMON = problems(
    BadRequest, Unauthenticated, Forbidden, SlowBody, TooLarge, UnsupportedMedia, Invalid, TooMany, Problem, Unavailable
)
_BY_STATUS: Mapping[int, type[Problem]] = {
    kind.status: kind
    for kind in (
        BadRequest,
        Unauthenticated,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        TooLarge,
        UnsupportedMedia,
        Invalid,
    )
}


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or get_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        configure_logging()
        services = app.state.services = make_services(settings)
        try:
            with gc_tuning.set_up():
                async with present(services):
                    yield
        finally:
            await services.close()

    app = FastAPI(
        title="Unveil",
        version=__version__,
        summary="Protects images with learnable encryption and measures what an attacker can still see.",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # FastAPI's own pages load scripts from a network of others
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.metrics = metrics.Metrics()
    app.state.readiness = health.Readiness()
    app.state.streams = Streams(settings.max_streams)
    for router in (encryption, keys, accounts, catalog, datasets, evaluations):
        app.include_router(router, responses=_COMMON)
    for router in (health.router, metrics.router, docs.router, dashboard):
        app.include_router(router)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]

    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    by_path = {"/datasets": settings.max_upload_bytes, "/sign-in": _SIGN_IN_BYTES, "/sign-out": _SIGN_IN_BYTES}
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes, by_path=by_path)
    app.add_middleware(Requests, metrics=app.state.metrics)
    return app


class Requests:
    """ASGI middleware around all: request ids, one log line and one count a request, a shape for every answer; HEAD."""

    def __init__(self, app: ASGIApp, metrics: metrics.Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        id = given if _SANE_ID.fullmatch(given) else new_id("req")
        request_id.set(id)
        account_id.set("")
        started, status = time.perf_counter(), 0
        head = scope["method"] == "HEAD" and scope["path"] not in _NO_HEAD
        inner = {**scope, "method": "GET"} if head else scope

        async def watched(message: Message) -> None:
            nonlocal status
            if head and status:
                return
            if message["type"] == "http.response.start":
                status = message["status"]
                # what we call a PNG or a problem is never to be guessed into a page
                ours = ((b"x-request-id", id.encode()), (b"x-content-type-options", b"nosniff"))
                held = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(header for header in ours if header[0] not in held)]
            await send(message)
            if head:  # over with this, also for a stream that would go on
                await send({"type": "http.response.body"})

        try:
            await self.app(inner, receive, watched)
        except Exception:
            logger.exception("unhandled error")
            if status:  # half an answer is out: only a torn connection tells the caller
                raise
            await respond(Problem(f"the service failed; its log names this request {id}"))(inner, receive, watched)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(inner.get("route"), "path", "unknown")
            method = scope["method"] if scope["method"] in _METHODS else "other"  # a caller may invent any
            self.metrics.count(method, route, status, seconds)
            logger.info(
                "request",
                extra={
                    "method": method, "route": route, "status": status, "ms": round(seconds * 1000, 1),
                    "account_id": inner.get("state", {}).get("account_id", ""), **_ids(inner),
                },
            )  # fmt: skip


def _ids(scope: Scope) -> dict[str, str]:
    """What an address names, where it looks like an id: what else a caller wrote there is not for the log."""
    found = [value for value in scope.get("path_params", {}).values() if isinstance(value, str)]
    matches = (_ID.fullmatch(value) for value in found)
    return {f"{_NAMES.get(match[1], match[1])}_id": match[0] for match in matches if match}


# --- what may be raised, and the problem it becomes ---


async def _on_problem(_: Request, problem: Problem) -> Response:
    return respond(problem)


async def _on_replay(_: Request, replay: Replay) -> Response:
    return replay.response


async def _on_http(request: Request, error: HTTPException) -> Response:
    """What Starlette raises itself: unknown routes, wrong methods, forms that cannot be read."""
    kind = _BY_STATUS.get(error.status_code, BadRequest if error.status_code < 500 else Problem)
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if kind is NotFound:
        detail = f"no such address: {request.url.path}; /docs lists them"
    if kind is MethodNotAllowed:
        headers["Allow"] = _allowed(request)
        detail = f"{request.url.path} takes {headers['Allow']}"
    return respond(kind(detail, headers=headers))


def _allowed(request: Request) -> str:
    """Every method of the address: routes of the same path are separate, and each knows only its own."""
    methods: set[str] = set()
    for method in _METHODS:
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            methods.add(method)
    if "GET" in methods and request.url.path not in _NO_HEAD:
        methods.add("HEAD")
    return ", ".join(sorted(methods))


async def _on_validation(_: Request, error: RequestValidationError) -> Response:
    errors = [(_pointer(part), _message(part, error.body)) for part in error.errors()]
    detail = "; ".join(f"{pointer or 'body'}: {message}" for pointer, message in errors[:3])
    if any(part["type"] == "json_invalid" for part in error.errors()):
        return respond(BadRequest("the body is not JSON", errors))
    return respond(Invalid(detail, errors))


def _pointer(part: Mapping[str, Any]) -> str:
    """A JSON pointer (RFC 6901) into the body; what is not in the body is named with its place, as /query/limit."""
    location = () if part["type"] == "json_invalid" else part["loc"]
    parts = location[1:] if location and location[0] == "body" else location
    return "".join("/" + str(name).replace("~", "~0").replace("/", "~1") for name in parts)


def _message(part: Mapping[str, Any], body: Any) -> str:
    message = str(part["msg"])
    if part["type"] == "extra_forbidden":
        return "unknown field; remove it"
    if part["type"] == "missing" and isinstance(body, FormData) and part["loc"][-1] in body:
        return "is empty"  # FastAPI takes an empty text of a form for none
    if part["type"] == "value_error":  # a rule of ours
        message = str(part["ctx"]["error"])
    if part["type"] == "json_invalid":
        message = f"{part.get('ctx', {}).get('error', message)} at character {part['loc'][-1]}"
    given = part.get("input")
    if part["type"] != "missing" and isinstance(given, (str, int, float, bool)):
        shown = json.dumps(given)
        message += f"; got {shown if len(shown) <= 60 else shown[:57] + '...'}"
    return message


async def _on_hang_up(_: Request, __: ClientDisconnect) -> Response:
    """Nobody reads this answer; but it is no mistake of ours, and is not counted as one."""
    return respond(BadRequest("the body ended before it was whole"))


async def _on_database(_: Request, error: SQLAlchemyError) -> Response:
    """The database away is no mistake of ours; anything else is, and its log line comes from `Requests`."""
    if isinstance(error, DataError):
        return respond(Invalid("a text holds a character that cannot be stored (NUL), or a number is out of range"))
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if lost or isinstance(error, (OperationalError, InterfaceError, PoolTimeout)):
        return _away("database", error)
    raise error


async def _on_broker(_: Request, error: Exception) -> Response:
    return _away("broker", error)


async def _on_disk(_: Request, error: OSError) -> Response:
    """Of a blob, or of a body on its way in, which lies on the disk meanwhile."""
    failed = failure(error)
    if not isinstance(failed, StorageFull) and not isinstance(error, StorageFailed):
        raise error
    logger.warning("storage: %s", error.__cause__ or error)
    kind = FullStorage if isinstance(failed, StorageFull) else LostStorage
    return respond(kind(str(failed), headers={"Retry-After": str(_RETRY_S)}))


def _away(part: str, error: Exception) -> Response:
    logger.warning("%s away: %s", part, type(error).__name__)
    message = f"the {part} does not answer; nothing was lost, send the request again"
    return respond(Unavailable(message, headers={"Retry-After": str(_RETRY_S)}))


_HANDLERS: dict[type[Exception], Any] = {
    Problem: _on_problem,
    Replay: _on_replay,
    HTTPException: _on_http,
    RequestValidationError: _on_validation,
    ClientDisconnect: _on_hang_up,
    SQLAlchemyError: _on_database,
    OSError: _on_disk,
    redis.exceptions.ConnectionError: _on_broker,
    redis.exceptions.TimeoutError: _on_broker,
    redis.exceptions.BusyLoadingError: _on_broker,
    kombu.exceptions.OperationalError: _on_broker,
}
