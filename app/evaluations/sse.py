"""The events of an evaluation as server-sent events.

Streams the rows of the table `events` in commit order. A reader that reconnects with `Last-Event-ID` gets each event
exactly once. The stream ends after the last status.
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

from unveil.app.db.job_states import TERMINAL
from unveil.app.db.tables import Evaluation, Event
from unveil.app.errors.problem import TooMany
from unveil.app.evaluations import queries

POLL_INTERVAL_S = 0.5
_HEARTBEAT_INTERVAL_S = 15.0  # below the idle timeouts of proxies
_BATCH_SIZE = 500
_RETRY_MS = 2000


class TooManyStreams(TooMany):
    code, title = "too_many_streams", "The account follows too many evaluations at once"


class StreamLimiter:
    """Limits the open streams of each account on this process: each queries the database twice a second."""

    def __init__(self, max_open: int) -> None:
        self._max_open = max_open
        self._open_count: Counter[str] = Counter()

    def check(self, account_id: str) -> None:
        """Raises TooManyStreams."""
        if self._open_count[account_id] >= self._max_open:
            message = f"{self._max_open} streams are open; close one, or poll the evaluation"
            raise TooManyStreams(message, headers={"Retry-After": "5"})

    async def tracked(self, account_id: str, events: AsyncIterator[str]) -> AsyncIterator[str]:
        self._open_count[account_id] += 1
        try:
            async for event in events:
                yield event
        finally:
            self._open_count[account_id] -= 1
            self._open_count += Counter()  # drops accounts without streams


def is_finished(version_and_status: Evaluation | Row[Any], last_seen: int) -> bool:
    """Whether no event follows `last_seen`."""
    return version_and_status.status in TERMINAL and version_and_status.event_seq <= last_seen


async def iter_events(
    sessions: async_sessionmaker[AsyncSession],
    evaluation_id: str,
    read_version_and_status: Callable[[], Awaitable[Row[Any] | None]],
    last_seen: int,
) -> AsyncIterator[str]:
    """The events after `last_seen` as they are committed. Holds a database connection only during queries.

    read_version_and_status: None ends the stream.
    """
    yield f"retry: {_RETRY_MS}\n\n"
    last_sent_at = time.monotonic()
    while True:
        # Read the status before the events, so that no committed event is missed.
        version_and_status = await read_version_and_status()
        if version_and_status is None or is_finished(version_and_status, last_seen):
            return
        async with sessions() as session:
            events = await queries.list_events_after(session, evaluation_id, last_seen, _BATCH_SIZE)
        for event in events:
            yield format_event(event)
            last_seen, last_sent_at = event.seq, time.monotonic()
        if not events:
            if time.monotonic() - last_sent_at > _HEARTBEAT_INTERVAL_S:
                yield ": heartbeat\n\n"
                last_sent_at = time.monotonic()
            await asyncio.sleep(POLL_INTERVAL_S)


def format_event(event: Event) -> str:
    return f"id: {event.seq}\nevent: {event.type}\ndata: {json.dumps(event.data, separators=(',', ':'))}\n\n"
