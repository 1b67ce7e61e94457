"""How much a caller may send: bytes a body, counted while they arrive, values in JSON, and requests a second."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unveil.app.errors.problem import Problem, TooLarge, UnsupportedMedia
from unveil.app.http.problems import send_problem

_BURST_S = 2.0  # so many seconds' worth of requests may come at once: a page with its pictures
_REJECTION_DELAY_S = 1.0
_BODY_TIMEOUT_S = 30.0  # for a body, and longer the more of it has come
_MIN_BYTES_PER_SECOND = 8_000  # bytes a second
_MAX_JSON_VALUES = 200_000
_CLOSE_HEADERS = {"Connection": "close"}  # what is left of the body is not read
logger = logging.getLogger(__name__)


class SlowBody(Problem):
    status, code, title = 408, "slow_body", "The body did not arrive in time"


class BodyLimit:
    """ASGI middleware: answers 413 as soon as a body is longer than its path allows, with or without a length, and 408
    when it trickles.

    It replaces whatever the route makes of the torn body, so no parser's own error gets in the way.
    """

    def __init__(self, app: ASGIApp, limit: int, by_path: Mapping[str, int]) -> None:
        self.app, self.limit, self.by_path = app, limit, by_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.by_path.get(scope["path"], self.limit)
        body_too_large = TooLarge(
            f"the body is longer than the {limit} bytes that {scope['path']} takes; send less at a time",
            headers=_CLOSE_HEADERS,
        )
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            await send_problem(body_too_large, scope, receive, send)
            return
        rejection: Problem | None = None
        received, waited_s, is_complete, response_started = 0, 0.0, False, False

        async def receive_limited() -> Message:
            nonlocal received, waited_s, is_complete, rejection
            if rejection is not None:
                raise rejection
            since = time.monotonic()
            try:
                # once it is whole, what follows is the end of the connection
                timeout_s = None if is_complete else _BODY_TIMEOUT_S + received / _MIN_BYTES_PER_SECOND - waited_s
                async with asyncio.timeout(timeout_s):
                    message = await receive()
            except TimeoutError:
                rejection = SlowBody(f"send at least {_MIN_BYTES_PER_SECOND} bytes a second", headers=_CLOSE_HEADERS)
                raise rejection from None
            waited_s += time.monotonic() - since
            received += len(message.get("body", b""))
            is_complete = not message.get("more_body", False)
            if received > limit:
                rejection = body_too_large
                raise rejection
            return message

        async def send_unless_rejected(message: Message) -> None:
            nonlocal response_started
            if rejection is not None and not response_started:
                return
            response_started = True
            await send(message)

        try:
            await self.app(scope, receive_limited, send_unless_rejected)
        except Problem as raised:
            if raised is not rejection:
                raise
        if rejection is not None and not response_started:
            await send_problem(rejection, scope, receive, send)


def require_json_content_type(content_type: str) -> None:
    """Raises UnsupportedMedia where the body does not say that it is JSON."""
    media = content_type.partition(";")[0].strip().lower()
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        raise UnsupportedMedia("send JSON, and say so: Content-Type: application/json")


def require_multipart_content_type(content_type: str) -> None:
    """Raises UnsupportedMedia where the body does not say that it is a form with files."""
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise UnsupportedMedia("send a form with files, and say so: Content-Type: multipart/form-data")


def reject_oversized_json(body: bytes) -> None:
    """Refuse JSON that would unfold into far more memory than its bytes, before it is parsed. Raises TooLarge."""
    value_count = body.count(b",") + body.count(b"[") + body.count(b"{")
    if value_count > _MAX_JSON_VALUES:
        raise TooLarge(f"the JSON holds about {value_count} values; at most {_MAX_JSON_VALUES} are taken")
