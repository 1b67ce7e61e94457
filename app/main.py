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
from unveil.app.dependencies import make_app_state
from unveil.app.encryption.routes import router as encryption
from unveil.app.errors.problem import (
    BadRequest,
    Forbidden,
    Invalid,
    MethodNotAllowed,
    NotFound,
    Problem,
    StorageFull,
    StorageUnavailable,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)
from unveil.app.evaluations.routes import router as evaluations
from unveil.app.evaluations.sse import StreamLimiter
from unveil.app.http import docs
from unveil.app.http.idempotency import StoredResponse
from unveil.app.http.limits import BodyLimit, SlowBody
from unveil.app.http.openapi import build_openapi
from unveil.app.http.problems import problems, to_response
from unveil.app.keys.routes import router as keys
from unveil.app.observability.logging import account_id, configure_logging, request_id
from unveil.app.ops import gc_tuning, health, metrics
from unveil.app.ops.heartbeat import send_heartbeats
from unveil.app.settings import Settings, get_settings
from unveil.app.storage import StorageError, StorageFullError, classify_error
from unveil.models.core.version import __version__

logger = logging.getLogger(__name__)

_REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_RESOURCE_ID_PATTERN = re.compile(r"([a-z]{1,16})_[0-9a-f]{32}")
_LOG_NAME_BY_PREFIX = {"ev": "evaluation", "ds": "dataset", "acct": "of_account"}
_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
_HEAD_EXCLUDED_PATHS = frozenset({"/sign-in"})  # its GET uses up a code, and whoever previews a link sends HEAD
_RETRY_AFTER_S = 5
_MAX_SIGN_IN_BYTES = 4096  # anybody may send these
_COMMON_PROBLEMS = problems(
    BadRequest, Unauthenticated, Forbidden, SlowBody, TooLarge, UnsupportedMedia, Invalid, TooMany, Problem, Unavailable
)
_PROBLEM_BY_STATUS: Mapping[int, type[Problem]] = {
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
        app_state = app.state.app_state = make_app_state(settings)
        try:
            with gc_tuning.tuned_gc():
                async with send_heartbeats(app_state):
                    yield
        finally:
            await app_state.close()

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
    app.state.streams = StreamLimiter(settings.max_event_streams)
    for router in (encryption, keys, accounts, catalog, datasets, evaluations):
        app.include_router(router, responses=_COMMON_PROBLEMS)
    for router in (health.router, metrics.router, docs.router, dashboard):
        app.include_router(router)
    app.openapi = lambda: build_openapi(app)  # type: ignore[method-assign]

    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    by_path = {"/datasets": settings.max_upload_bytes, "/sign-in": _MAX_SIGN_IN_BYTES, "/sign-out": _MAX_SIGN_IN_BYTES}
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes, by_path=by_path)
    app.add_middleware(RequestContextMiddleware, metrics=app.state.metrics)
    return app


class RequestContextMiddleware:
    """ASGI middleware around all: request ids, one log line and one count a request, a shape for every answer; HEAD."""

    def __init__(self, app: ASGIApp, metrics: metrics.Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client_request_id = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        id = client_request_id if _REQUEST_ID_PATTERN.fullmatch(client_request_id) else new_id("req")
        request_id.set(id)
        account_id.set("")
        started, status = time.perf_counter(), 0
        is_head = scope["method"] == "HEAD" and scope["path"] not in _HEAD_EXCLUDED_PATHS
        inner_scope = {**scope, "method": "GET"} if is_head else scope

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if is_head and status:
                return
            if message["type"] == "http.response.start":
                status = message["status"]
                # what we call a PNG or a problem is never to be guessed into a page
                own_headers = ((b"x-request-id", id.encode()), (b"x-content-type-options", b"nosniff"))
                present = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(header for header in own_headers if header[0] not in present),
                ]
            await send(message)
            if is_head:  # over with this, also for a stream that would go on
                await send({"type": "http.response.body"})

        try:
            await self.app(inner_scope, receive, send_with_headers)
        except Exception:
            logger.exception("unhandled error")
            if status:  # half an answer is out: only a torn connection tells the caller
                raise
            await to_response(Problem(f"the service failed; its log names this request {id}"))(
                inner_scope, receive, send_with_headers
            )
        finally:
            seconds = time.perf_counter() - started
            route = getattr(inner_scope.get("route"), "path", "unknown")
            method = scope["method"] if scope["method"] in _METHODS else "other"  # a caller may invent any
            self.metrics.record_request(method, route, status, seconds)
            logger.info(
                "request",
                extra={
                    "method": method, "route": route, "status": status, "ms": round(seconds * 1000, 1),
                    "account_id": inner_scope.get("state", {}).get("account_id", ""), **_log_ids(inner_scope),
                },
            )  # fmt: skip


def _log_ids(scope: Scope) -> dict[str, str]:
    """What an address names, where it looks like an id: what else a caller wrote there is not for the log."""
    values = [value for value in scope.get("path_params", {}).values() if isinstance(value, str)]
    matches = (_RESOURCE_ID_PATTERN.fullmatch(value) for value in values)
    return {f"{_LOG_NAME_BY_PREFIX.get(match[1], match[1])}_id": match[0] for match in matches if match}


# --- what may be raised, and the problem it becomes ---


async def _on_problem(_: Request, problem: Problem) -> Response:
    return to_response(problem)


async def _on_stored_response(_: Request, stored: StoredResponse) -> Response:
    return stored.response


async def _on_http(request: Request, error: HTTPException) -> Response:
    """What Starlette raises itself: unknown routes, wrong methods, forms that cannot be read."""
    kind = _PROBLEM_BY_STATUS.get(error.status_code, BadRequest if error.status_code < 500 else Problem)
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if kind is NotFound:
        detail = f"no such address: {request.url.path}; /docs lists them"
    if kind is MethodNotAllowed:
        headers["Allow"] = _allowed_methods(request)
        detail = f"{request.url.path} takes {headers['Allow']}"
    return to_response(kind(detail, headers=headers))


def _allowed_methods(request: Request) -> str:
    """Every method of the address: routes of the same path are separate, and each knows only its own."""
    methods: set[str] = set()
    for method in _METHODS:
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            methods.add(method)
    if "GET" in methods and request.url.path not in _HEAD_EXCLUDED_PATHS:
        methods.add("HEAD")
    return ", ".join(sorted(methods))


async def _on_validation(_: Request, error: RequestValidationError) -> Response:
    errors = [(_pointer(part), _message(part, error.body)) for part in error.errors()]
    detail = "; ".join(f"{pointer or 'body'}: {message}" for pointer, message in errors[:3])
    if any(part["type"] == "json_invalid" for part in error.errors()):
        return to_response(BadRequest("the body is not JSON", errors))
    return to_response(Invalid(detail, errors))


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
    value = part.get("input")
    if part["type"] != "missing" and isinstance(value, (str, int, float, bool)):
        value_json = json.dumps(value)
        message += f"; got {value_json if len(value_json) <= 60 else value_json[:57] + '...'}"
    return message


async def _on_client_disconnect(_: Request, __: ClientDisconnect) -> Response:
    """Nobody reads this answer; but it is no mistake of ours, and is not counted as one."""
    return to_response(BadRequest("the body ended before it was whole"))


async def _on_database(_: Request, error: SQLAlchemyError) -> Response:
    """The database away is no mistake of ours; anything else is, and its log line comes from `Requests`."""
    if isinstance(error, DataError):
        return to_response(Invalid("a text holds a character that cannot be stored (NUL), or a number is out of range"))
    connection_lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if connection_lost or isinstance(error, (OperationalError, InterfaceError, PoolTimeout)):
        return _unavailable_response("database", error)
    raise error


async def _on_broker(_: Request, error: Exception) -> Response:
    return _unavailable_response("broker", error)


async def _on_disk(_: Request, error: OSError) -> Response:
    """Of a blob, or of a body on its way in, which lies on the disk meanwhile."""
    storage_error = classify_error(error)
    if not isinstance(storage_error, StorageFullError) and not isinstance(error, StorageError):
        raise error
    logger.warning("storage: %s", error.__cause__ or error)
    kind = StorageFull if isinstance(storage_error, StorageFullError) else StorageUnavailable
    return to_response(kind(str(storage_error), headers={"Retry-After": str(_RETRY_AFTER_S)}))


def _unavailable_response(part: str, error: Exception) -> Response:
    logger.warning("%s away: %s", part, type(error).__name__)
    message = f"the {part} does not answer; nothing was lost, send the request again"
    return to_response(Unavailable(message, headers={"Retry-After": str(_RETRY_AFTER_S)}))


_HANDLERS: dict[type[Exception], Any] = {
    Problem: _on_problem,
    StoredResponse: _on_stored_response,
    HTTPException: _on_http,
    RequestValidationError: _on_validation,
    ClientDisconnect: _on_client_disconnect,
    SQLAlchemyError: _on_database,
    OSError: _on_disk,
    redis.exceptions.ConnectionError: _on_broker,
    redis.exceptions.TimeoutError: _on_broker,
    redis.exceptions.BusyLoadingError: _on_broker,
    kombu.exceptions.OperationalError: _on_broker,
}
