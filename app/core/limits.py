"""How much a caller may send: bytes a body, counted while they arrive, and requests a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import redis.exceptions
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.problems import Problem, TooLarge, TooMany, send_problem

if TYPE_CHECKING:
    from app.core.services import Services

_WINDOW_S = 10
logger = logging.getLogger(__name__)


class BodyLimit:
    """ASGI middleware: answers 413 as soon as a body is longer than its path allows, with or without a length.

    It replaces whatever the route makes of the torn body, so no parser's own error gets in the way.
    """

    def __init__(self, app: ASGIApp, limit: int, by_path: Mapping[str, int]) -> None:
        self.app, self.limit, self.by_path = app, limit, by_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.by_path.get(scope["path"], self.limit)
        problem = TooLarge(
            f"the body is longer than the {limit} bytes that {scope['path']} takes; send less at a time",
            headers={"Connection": "close"},  # what is left of the body is not read
        )
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            await send_problem(problem, scope, receive, send)
            return
        received, started = 0, False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise problem
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            if received > limit and not started:
                return
            started = True
            await send(message)

        try:
            await self.app(scope, counted, watched)
        except Problem as raised:
            if raised is not problem:
                raise
        if received > limit and not started:
            await send_problem(problem, scope, receive, send)


async def check_rate(svc: Services, account_id: str) -> None:
    """Count one request of the account. Raises TooMany."""
    now = time.time()
    window = int(now // _WINDOW_S)
    name = f"unveil:rate:{account_id}:{window}"
    try:
        async with svc.redis.pipeline(transaction=False) as pipe:
            pipe.incr(name)
            pipe.expire(name, 2 * _WINDOW_S)
            count, _ = await pipe.execute()
    except (redis.exceptions.RedisError, OSError):
        # What needs no broker is served without one; what needs it says so itself.
        logger.warning("rate limit not counted: redis is away")
        return
    allowed = svc.settings.requests_per_second * _WINDOW_S
    if count > allowed:
        wait = max(1, round((window + 1) * _WINDOW_S - now))
        message = f"an account may make {svc.settings.requests_per_second:g} requests a second, averaged over 10 s"
        raise TooMany(f"{message}; wait {wait} s", headers={"Retry-After": str(wait)})
