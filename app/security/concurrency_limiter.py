"""Whose images are at the workers: an account has a share of their processes, so that another finds one free."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sqlalchemy import any_, literal, or_

from unveil.app.db.heartbeats import API_QUEUE, ENCRYPT_QUEUE, select_live_processes
from unveil.app.db.tables import ProcessHeartbeat
from unveil.app.errors.problem import TooMany

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_CAPACITY_REFRESH_INTERVAL_S = 5.0
_ACTIVITY_WINDOW_S = 10.0  # so long after another account's last request, whatever it was for, the reserve is lent


class ConcurrencyLimitExceeded(TooMany):
    code, title = "too_many_at_once", "Other requests of this account are still at work"


class AccountConcurrencyLimiter:
    """Of one process of the service. Requests of an account beyond its share wait for those before them.

    What is kept free for others is lent while there are none, to requests that are over before one could mind.
    """

    def __init__(self) -> None:
        self._in_flight: Counter[str] = Counter()
        self._waiters: defaultdict[str, deque[asyncio.Future[None]]] = defaultdict(deque)
        self._last_activity: dict[str, float] = {}  # when each account last asked for anything
        self._account_limit, self._total_slots, self._refreshed_at = 1, 1, float("-inf")

    @asynccontextmanager
    async def slot(
        self, engine: AsyncEngine, account_id: str, timeout_s: float, *, short: bool = False
    ) -> AsyncIterator[None]:
        """brief: it will be over in about a second. Raises TooManyAtOnce."""
        await self._refresh_capacity(engine)
        try:
            async with asyncio.timeout(timeout_s):
                while self._in_flight[account_id] >= self._limit_for(account_id, short):
                    await self._wait_for_slot(account_id)
        except TimeoutError:
            limit = self._limit_for(account_id, short)
            message = f"an account has {limit} requests at the workers at once; wait for the others, then send it again"
            raise ConcurrencyLimitExceeded(message, headers={"Retry-After": "5"}) from None
        self._in_flight[account_id] += 1
        try:
            yield
        finally:
            self._in_flight[account_id] -= 1
            self._in_flight += Counter()  # forgets who has none
            self._wake_next_waiter(account_id)

    def record_activity(self, account_id: str) -> None:
        """It has asked for something, so whoever else is at work is not alone."""
        self._last_activity[account_id] = time.monotonic()

    async def _wait_for_slot(self, account_id: str) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiters[account_id].append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # it was our turn just then: the next one's now
                self._wake_next_waiter(account_id)
            raise

    def _wake_next_waiter(self, account_id: str) -> None:
        waiters = self._waiters[account_id]
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        del self._waiters[account_id]

    def _limit_for(self, account_id: str, short: bool) -> int:
        active_since = time.monotonic() - _ACTIVITY_WINDOW_S
        self._last_activity = {other: seen for other, seen in self._last_activity.items() if seen > active_since}
        return self._total_slots if short and self._last_activity.keys() <= {account_id} else self._account_limit

    async def _refresh_capacity(self, engine: AsyncEngine) -> None:
        """Three quarters of what the encryption workers do at once, for each process of the service its part."""
        if time.monotonic() - self._refreshed_at <= _CAPACITY_REFRESH_INTERVAL_S:
            return
        self._refreshed_at = time.monotonic()  # one looks, the others go by what was found last
        query = select_live_processes().where(
            or_(ProcessHeartbeat.queues == [API_QUEUE], literal(ENCRYPT_QUEUE) == any_(ProcessHeartbeat.queues))
        )
        async with engine.connect() as database:
            rows = (
                await database.execute(query.with_only_columns(ProcessHeartbeat.queues, ProcessHeartbeat.concurrency))
            ).all()
        total_slots = sum(slots or 1 for queues, slots in rows if queues != [API_QUEUE])
        api_processes = max(1, sum(queues == [API_QUEUE] for queues, _ in rows))
        self._account_limit = max(1, (total_slots - max(1, total_slots // 4)) // api_processes)
        # Who asks the other processes of the service, this one cannot know: then nothing is lent.
        self._total_slots = max(1, total_slots) if api_processes == 1 else self._account_limit
