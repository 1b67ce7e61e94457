"""Server-sent events of an evaluation: the rows of its event log in commit order.

A client that reconnects with `Last-Event-ID` misses no event and gets no event twice. The stream ends after the last
status.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi.sse import ServerSentEvent
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from unveil.app.db.job_states import TERMINAL
from unveil.app.db.tables import Evaluation
from unveil.app.errors.problem import TooManyStreams
from unveil.app.evaluations import queries

POLL_INTERVAL_S = 0.5
_BATCH_SIZE = 500
_RETRY_MS = 2000


class StreamLimiter:
    """Limits the open streams of each account on this process; each stream queries the database twice a second."""

    def __init__(self, max_open: int) -> None:
        self._max_open = max_open
        self._open_count: Counter[str] = Counter()

    @contextmanager
    def open(self, account_id: str) -> Iterator[None]:
        """Raises TooManyStreams."""
        if self._open_count[account_id] >= self._max_open:
            message = f"the account has {self._max_open} open streams; close one, or poll the evaluation"
            raise TooManyStreams(message, headers={"Retry-After": "5"})
        self._open_count[account_id] += 1
        try:
            yield
        finally:
            self._open_count[account_id] -= 1
            self._open_count += Counter()  # drops accounts without a stream


def is_finished(version_and_status: Evaluation | Row[Any], last_seen: int) -> bool:
    """Whether no event will follow the event `last_seen`."""
    return version_and_status.status in TERMINAL and version_and_status.event_seq <= last_seen


async def iter_events(
    sessions: async_sessionmaker[AsyncSession],
    evaluation_id: str,
    read_version_and_status: Callable[[], Awaitable[Row[Any] | None]],
    last_seen: int,
) -> AsyncIterator[ServerSentEvent]:
    """Yields the events after `last_seen` as they happen; holds a database connection only during a query.

    `read_version_and_status` returns None to end the stream.
    """
    yield ServerSentEvent(retry=_RETRY_MS)
    while True:
        # Read before the events: every event up to this version is then visible to the query below.
        version_and_status = await read_version_and_status()
        if version_and_status is None or is_finished(version_and_status, last_seen):
            return
        async with sessions() as session:
            events = await queries.list_events_after(session, evaluation_id, last_seen, _BATCH_SIZE)
        for event in events:
            yield ServerSentEvent(id=str(event.seq), event=event.type, data=event.data)
            last_seen = event.seq
        if not events:
            await asyncio.sleep(POLL_INTERVAL_S)
