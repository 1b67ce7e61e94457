"""ASGI middleware around every request: request id, log line, default headers, HEAD and unhandled errors."""

from __future__ import annotations

import logging
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars

from unveil.app.db.ids import new_id
from unveil.app.errors.problem import ServerProblem
from unveil.app.http.problems import to_response

logger = logging.getLogger(__name__)

_REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_RESOURCE_ID_PATTERN = re.compile(r"([a-z]{1,16})_[0-9a-f]{32}")
_LOG_NAME_BY_PREFIX = {"ev": "evaluation", "ds": "dataset", "acct": "of_account"}
# GET /sign-in consumes a one-use code, and programs that preview links send HEAD.
HEAD_EXCLUDED_PATHS = frozenset({"/sign-in"})


class RequestContextMiddleware:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client_request_id = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        id = client_request_id if _REQUEST_ID_PATTERN.fullmatch(client_request_id) else new_id("req")
        clear_contextvars()
        bind_contextvars(request_id=id)
        started, status = time.perf_counter(), 0
        is_head = scope["method"] == "HEAD" and scope["path"] not in HEAD_EXCLUDED_PATHS
        inner_scope = {**scope, "method": "GET"} if is_head else scope

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if is_head and status:
                return
            if message["type"] == "http.response.start":
                status = message["status"]
                # nosniff: a browser must not guess that an image or a problem document is a page.
                default_headers = ((b"x-request-id", id.encode()), (b"x-content-type-options", b"nosniff"))
                present = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(header for header in default_headers if header[0] not in present),
                ]
            await send(message)
            if is_head:  # ends the response here, even if it is an endless stream
                await send({"type": "http.response.body"})

        try:
            await self.app(inner_scope, receive, send_with_headers)
        except Exception:
            logger.exception("unhandled error")
            if status:  # part of the response is sent, so only a closed connection can signal the failure
                raise
            problem = ServerProblem(f"the service failed; its log has the details under the request id {id}")
            await to_response(problem)(inner_scope, receive, send_with_headers)
        finally:
            fields = {
                "method": scope["method"],
                "route": getattr(inner_scope.get("route"), "path", "unknown"),
                "status": status,
                "ms": round((time.perf_counter() - started) * 1000, 1),
            }
            logger.info("request", extra=fields | _resource_ids(inner_scope))


def _resource_ids(scope: Scope) -> dict[str, str]:
    """Path parameters that look like ids. Anything else is text from the client and may be a secret."""
    values = [value for value in scope.get("path_params", {}).values() if isinstance(value, str)]
    matches = (_RESOURCE_ID_PATTERN.fullmatch(value) for value in values)
    return {f"{_LOG_NAME_BY_PREFIX.get(match[1], match[1])}_id": match[0] for match in matches if match}
