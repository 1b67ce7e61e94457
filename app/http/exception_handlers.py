"""Maps every exception that may leave a route to a problem document."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

import kombu.exceptions
import redis.exceptions
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from unveil.app.errors.problem import (
    BadRequest,
    Invalid,
    MethodNotAllowed,
    NotFound,
    Problem,
    ServerProblem,
    StorageAway,
    StorageFull,
    Unavailable,
)
from unveil.app.http import validation
from unveil.app.http.idempotency import StoredResponse
from unveil.app.http.limits import body_too_large
from unveil.app.http.problems import to_response
from unveil.app.http.request_context import HEAD_EXCLUDED_PATHS
from unveil.app.storage import StorageError, StorageFullError, classify_error

logger = logging.getLogger(__name__)

_METHODS = ("GET", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
_RETRY_HEADERS = {"Retry-After": "5"}


async def _on_problem(_: Request, problem: Problem) -> Response:
    return to_response(problem)


async def _on_stored_response(_: Request, stored: StoredResponse) -> Response:
    return stored.response


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    """Raised by Starlette itself: unknown paths, wrong methods, oversized bodies, forms that cannot be parsed."""
    path = request.url.path
    match error.status_code:
        case 204:  # a dependency ends the request without a body
            return Response(status_code=204, headers=error.headers)
        case 404:
            problem: Problem = NotFound(f"unknown path {path}; /docs lists all paths")
        case 405:
            allowed = _allowed_methods(request)
            problem = MethodNotAllowed(f"{path} allows {allowed}", headers={"Allow": allowed})
        case 413:
            problem = body_too_large(request.scope)
        case status:
            kind = Problem.by_status.get(status, BadRequest if status < 500 else ServerProblem)
            problem = kind(str(error.detail), headers=dict(error.headers or {}))
    return to_response(problem)


def _allowed_methods(request: Request) -> str:
    """The methods of all routes with this path; Starlette only reports those of the first one."""
    methods = {
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    }
    if "GET" in methods and request.url.path not in HEAD_EXCLUDED_PATHS:
        methods.add("HEAD")
    return ", ".join(sorted(methods))


async def _on_validation_error(_: Request, error: RequestValidationError) -> Response:
    return to_response(validation.to_problem(error))


async def _on_client_disconnect(_: Request, __: ClientDisconnect) -> Response:
    """The client never reads this response, but without it the disconnect would count as a server error."""
    return to_response(BadRequest("the connection closed before the body was complete"))


async def _on_database_error(_: Request, error: SQLAlchemyError) -> Response:
    if isinstance(error, DataError):
        return to_response(Invalid("a text holds a NUL character, or a number is out of range"))
    connection_lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if connection_lost or isinstance(error, (OperationalError, InterfaceError, PoolTimeout)):
        return _unavailable_response("database", error)
    raise error


async def _on_broker_error(_: Request, error: Exception) -> Response:
    return _unavailable_response("broker", error)


async def _on_os_error(_: Request, error: OSError) -> Response:
    """From the blob store, or from the temporary file of an upload."""
    storage_error = classify_error(error)
    if not isinstance(storage_error, StorageFullError) and not isinstance(error, StorageError):
        raise error
    logger.warning("storage: %s", error.__cause__ or error)
    kind = StorageFull if isinstance(storage_error, StorageFullError) else StorageAway
    return to_response(kind(str(storage_error), headers=_RETRY_HEADERS))


def _unavailable_response(component: str, error: Exception) -> Response:
    logger.warning("%s unavailable: %s", component, type(error).__name__)
    message = f"the {component} does not answer; nothing was lost, send the request again"
    return to_response(Unavailable(message, headers=_RETRY_HEADERS))


EXCEPTION_HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    Problem: _on_problem,
    StoredResponse: _on_stored_response,
    HTTPException: _on_http_exception,
    RequestValidationError: _on_validation_error,
    ClientDisconnect: _on_client_disconnect,
    SQLAlchemyError: _on_database_error,
    OSError: _on_os_error,
    redis.exceptions.ConnectionError: _on_broker_error,
    redis.exceptions.TimeoutError: _on_broker_error,
    redis.exceptions.BusyLoadingError: _on_broker_error,
    kombu.exceptions.OperationalError: _on_broker_error,
}
