"""Questions of many requests, asked as one: the busier the service, the less of a round trip each of them costs.

    find = Together(rows_by_id)           # a coroutine function: many ids in, as many rows out
    row = await find(id)                  # alone it goes at once; what comes meanwhile goes together in the next call

Nothing is remembered: every answer was read after its question came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from sqlalchemy import Executable, Row
from sqlalchemy.exc import TimeoutError as NoAnswer
from sqlalchemy.ext.asyncio import AsyncEngine

_SLOW_S = 1.0  # then the next call goes beside it: one connection that hangs must not hold up all
_PATIENCE_S = 10.0  # then who asked is told so

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Together(Generic[Question, Answer]):
    def __init__(self, ask: Callable[[Sequence[Question]], Coroutine[Any, Any, Sequence[Answer]]]) -> None:
        """`ask` answers in the order of its questions. What it raises, all who asked together get."""
        self._ask = ask
        self._waiting: list[tuple[Question, asyncio.Future[Answer]]] = []
        self._call: asyncio.Task[Sequence[Answer]] | None = None

    async def __call__(self, question: Question) -> Answer:
        """Raises TimeoutError, and what `ask` raises."""
        mine: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, mine))
        if self._call is None:
            self._begin()
        return await mine

    def _begin(self) -> None:
        asked, self._waiting = self._waiting, []
        call = self._call = asyncio.create_task(self._ask([question for question, _ in asked]))
        askers = [mine for _, mine in asked]
        loop = asyncio.get_running_loop()
        timers = (
            loop.call_later(_SLOW_S, self._go_on, call),
            loop.call_later(_PATIENCE_S, self._answer, askers, call),
        )
        call.add_done_callback(partial(self._end, askers, timers))

    def _end(
        self,
        askers: Sequence[asyncio.Future[Answer]],
        timers: Sequence[asyncio.TimerHandle],
        call: asyncio.Task[Sequence[Answer]],
    ) -> None:
        for timer in timers:
            timer.cancel()
        self._answer(askers, call)
        self._go_on(call)

    def _go_on(self, call: asyncio.Task[Sequence[Answer]]) -> None:
        """Who waits need not wait for this call."""
        if call is self._call:
            self._call = None
            if self._waiting:
                self._begin()

    def _answer(self, askers: Sequence[asyncio.Future[Answer]], call: asyncio.Task[Sequence[Answer]]) -> None:
        """The call is over, or it is too late for it."""
        over = call.done() and not call.cancelled()
        error = call.exception() if over else TimeoutError("no answer in time")
        # Not asyncio.timeout: it waits for what it cancelled, and that waits for a server which hangs.
        call.cancel()
        for number, asker in enumerate(askers):
            if asker.done():  # the request has gone meanwhile, or was told that it is too late
                continue
            if error is None:
                asker.set_result(call.result()[number])
            else:
                asker.set_exception(error)


class Lookups:
    def __init__(self, engine: AsyncEngine) -> None:
        """`engine`: each statement its own transaction, so one round trip."""
        self._engine = engine
        self._by_statement: dict[Executable, Together[Any, Row[Any] | None]] = {}

    async def find(self, statement: Executable, key: Any) -> Row[Any] | None:
        """The row of a key, as it is now. `statement`: made once; its first column is the key and equals one of the
        array `keys`. Raises what a database does that is away or does not answer."""
        if statement not in self._by_statement:
            self._by_statement[statement] = Together(partial(self._rows, statement))
        try:
            return await self._by_statement[statement](key)
        except TimeoutError as late:
            raise NoAnswer(str(late)) from None

    async def _rows(self, statement: Executable, keys: Sequence[Any]) -> list[Row[Any] | None]:
        async with self._engine.connect() as database:
            found = {row[0]: row for row in await database.execute(statement, {"keys": list(set(keys))})}
        return [found.get(key) for key in keys]
