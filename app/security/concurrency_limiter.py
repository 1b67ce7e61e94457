"""Whose images are at the workers: an account has a share of their processes, so that another finds one free."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sqlalchemy import or_

from unveil.app.db.heartbeats import API, ENCRYPT, alive
from unveil.app.db.tables import Worker
from unveil.app.errors.problem import TooMany

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_LOOK_S = 5.0
_ALONE_S = 10.0  # so long after another account's last request, whatever it was for, the reserve is lent


class TooManyAtOnce(TooMany):
    code, title = "too_many_at_once", "Other requests of this account are still at work"


class Turns:
    """Of one process of the service. Requests of an account beyond its share wait for those before them.

    What is kept free for others is lent while there are none, to requests that are over before one could mind.
    """

    def __init__(self) -> None:
        self._at_work: Counter[str] = Counter()
        self._waiting: defaultdict[str, deque[asyncio.Future[None]]] = defaultdict(deque)
        self._seen: dict[str, float] = {}  # when each account last asked for anything
        self._share, self._all, self._looked = 1, 1, float("-inf")

    @asynccontextmanager
    async def turn(
        self, engine: AsyncEngine, account_id: str, patience_s: float, *, brief: bool = False
    ) -> AsyncIterator[None]:
        """brief: it will be over in about a second. Raises TooManyAtOnce."""
        await self._look(engine)
        try:
            async with asyncio.timeout(patience_s):
                while self._at_work[account_id] >= self._most(account_id, brief):
                    await self._wait(account_id)
        except TimeoutError:
            most = self._most(account_id, brief)
            message = f"an account has {most} requests at the workers at once; wait for the others, then send it again"
            raise TooManyAtOnce(message, headers={"Retry-After": "5"}) from None
        self._at_work[account_id] += 1
        try:
            yield
        finally:
            self._at_work[account_id] -= 1
            self._at_work += Counter()  # forgets who has none
            self._wake(account_id)

    def see(self, account_id: str) -> None:
        """It has asked for something, so whoever else is at work is not alone."""
        self._seen[account_id] = time.monotonic()

    async def _wait(self, account_id: str) -> None:
        mine = asyncio.get_running_loop().create_future()
        self._waiting[account_id].append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():  # it was our turn just then: the next one's now
                self._wake(account_id)
            raise

    def _wake(self, account_id: str) -> None:
        waiting = self._waiting[account_id]
        while waiting:
            first = waiting.popleft()
            if not first.done():
                first.set_result(None)
                return
        del self._waiting[account_id]

    def _most(self, account_id: str, brief: bool) -> int:
        since = time.monotonic() - _ALONE_S
        self._seen = {other: seen for other, seen in self._seen.items() if seen > since}
        return self._all if brief and self._seen.keys() <= {account_id} else self._share

    async def _look(self, engine: AsyncEngine) -> None:
        """Three quarters of what the encryption workers do at once, for each process of the service its part."""
        if time.monotonic() - self._looked <= _LOOK_S:
            return
        self._looked = time.monotonic()  # one looks, the others go by what was found last
        ours = alive().where(or_(Worker.queue == API, Worker.queue.contains(ENCRYPT)))
        async with engine.connect() as database:
            rows = (await database.execute(ours.with_only_columns(Worker.queue, Worker.slots))).all()
        slots = sum(slots or 1 for queue, slots in rows if queue != API)
        services = max(1, sum(queue == API for queue, _ in rows))
        self._share = max(1, (slots - max(1, slots // 4)) // services)
        # Who asks the other processes of the service, this one cannot know: then nothing is lent.
        self._all = max(1, slots) if services == 1 else self._share
