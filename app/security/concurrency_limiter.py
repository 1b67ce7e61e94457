"""Limits how many encryption slots one account occupies, so that another account always finds a free one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from sqlalchemy import any_, literal, or_
from sqlalchemy.ext.asyncio import AsyncEngine

from unveil.app.db.heartbeats import API_QUEUE, ENCRYPT_QUEUE, select_live_processes
from unveil.app.db.tables import ProcessHeartbeat
from unveil.app.errors.problem import TooManyAtOnce

_CAPACITY_REFRESH_INTERVAL_S = 5.0
_ACTIVITY_WINDOW_S = 10.0  # an account counts as active for so long after a request of any kind


class AccountConcurrencyLimiter:
    """Allows each account three quarters of the encryption slots; the rest, at least one slot, is the reserve.

    Short requests may use the reserve while no other account is active. With several API processes each process hands
    out an equal part of the slots and never lends the reserve, because it does not see the accounts of the others.
    """

    def __init__(self) -> None:
        self._last_activity: dict[str, float] = {}
        self._refreshed_at = float("-inf")
        self._set_capacity(1, 0)

    def _set_capacity(self, account_limit: int, reserve: int) -> None:
        self._capacity = account_limit, reserve
        # A semaphore lives as long as a request holds it or waits for it.
        self._slots_by_account: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._reserve = asyncio.Semaphore(reserve)

    @asynccontextmanager
    async def slot(
        self, engine: AsyncEngine, account_id: str, timeout_s: float, *, short: bool = False
    ) -> AsyncIterator[None]:
        """Holds a slot; `short` promises to hold it for about a second. Raises TooManyAtOnce."""
        await self._refresh_capacity(engine)
        limit, _ = self._capacity
        slots = self._slots_by_account.setdefault(account_id, asyncio.Semaphore(limit))
        if short and slots.locked() and not self._reserve.locked() and self._is_only_active_account(account_id):
            slots = self._reserve
        try:
            async with asyncio.timeout(timeout_s):
                await slots.acquire()
        except TimeoutError:
            message = f"all {limit} encryption slots of the account stayed in use for {timeout_s:g} s; try again"
            raise TooManyAtOnce(message, headers={"Retry-After": "5"}) from None
        try:
            yield
        finally:
            slots.release()

    def record_activity(self, account_id: str) -> None:
        self._last_activity[account_id] = time.monotonic()

    def _is_only_active_account(self, account_id: str) -> bool:
        active_since = time.monotonic() - _ACTIVITY_WINDOW_S
        self._last_activity = {id: at for id, at in self._last_activity.items() if at > active_since}
        return self._last_activity.keys() <= {account_id}

    async def _refresh_capacity(self, engine: AsyncEngine) -> None:
        if time.monotonic() - self._refreshed_at <= _CAPACITY_REFRESH_INTERVAL_S:
            return
        self._refreshed_at = time.monotonic()  # before the query: concurrent requests use the old capacity meanwhile
        query = (
            select_live_processes()
            .where(or_(ProcessHeartbeat.queues == [API_QUEUE], literal(ENCRYPT_QUEUE) == any_(ProcessHeartbeat.queues)))
            .with_only_columns(ProcessHeartbeat.queues, ProcessHeartbeat.concurrency)
        )
        async with engine.connect() as connection:
            processes = (await connection.execute(query)).all()
        total_slots = sum(concurrency or 1 for queues, concurrency in processes if queues != [API_QUEUE])
        api_processes = max(1, sum(queues == [API_QUEUE] for queues, _ in processes))
        account_limit = max(1, (total_slots - max(1, total_slots // 4)) // api_processes)
        reserve = max(0, total_slots - account_limit) if api_processes == 1 else 0
        if (account_limit, reserve) != self._capacity:
            self._set_capacity(account_limit, reserve)
