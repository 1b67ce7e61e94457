"""The events of an evaluation as server-sent events.

Rows of the table `events`, in commit order; a reader that reconnects with `Last-Event-ID` misses none and gets none
twice. The stream ends after the last status.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from unveil.app.db.job_states import ENDED
from unveil.app.db.tables import Evaluation, Event
from unveil.app.errors.problem import TooMany
from unveil.app.evaluations import queries

POLL_S = 0.5
_HEARTBEAT_S = 15.0  # below what proxies take for silence
_BATCH = 500
_RETRY_MS = 2000


class TooManyStreams(TooMany):
    code, title = "too_many_streams", "The account follows too many evaluations at once"


class Streams:
    """How many streams each account holds open on this process: each looks into the database twice a second."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def check(self, account_id: str) -> None:
        """Raises TooManyStreams."""
        if self._open[account_id] >= self._most:
            message = f"{self._most} streams are open; close one, or poll the evaluation"
            raise TooManyStreams(message, headers={"Retry-After": "5"})

    async def held(self, account_id: str, events: AsyncIterator[str]) -> AsyncIterator[str]:
        self._open[account_id] += 1
        try:
            async for event in events:
                yield event
        finally:
            self._open[account_id] -= 1
            self._open += Counter()  # forgets who has none


def over(standing: Evaluation | Row[Any], seen: int) -> bool:
    """Whether a reader who has seen event `seen` has nothing more to wait for."""
    return standing.status in ENDED and standing.version <= seen


async def stream(
    sessions: async_sessionmaker[AsyncSession],
    evaluation_id: str,
    look: Callable[[], Awaitable[Row[Any] | None]],
    seen: int,
) -> AsyncIterator[str]:
    """Everything after event `seen`, as it happens. Holds a database connection only while it looks.

    look: answers the evaluation's version and status; None where there is nothing more to read for this reader.
    """
    yield f"retry: {_RETRY_MS}\n\n"
    spoke = time.monotonic()
    while True:
        standing = await look()  # before the events: what was committed by then is among them, or seen
        if standing is None or over(standing, seen):
            return
        async with sessions() as session:
            events = await queries.events_after(session, evaluation_id, seen, _BATCH)
        for event in events:
            yield render(event)
            seen, spoke = event.seq, time.monotonic()
        if not events:
            if time.monotonic() - spoke > _HEARTBEAT_S:
                yield ": still here\n\n"
                spoke = time.monotonic()
            await asyncio.sleep(POLL_S)


def render(event: Event) -> str:
    return f"id: {event.seq}\nevent: {event.type}\ndata: {json.dumps(event.data, separators=(',', ':'))}\n\n"
