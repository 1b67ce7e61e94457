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

_NEXT_BATCH_AFTER_S = 1.0  # then the next call goes beside it: one connection that hangs must not hold up all
_LOAD_TIMEOUT_S = 10.0  # then who asked is told so

Key = TypeVar("Key")
Value = TypeVar("Value")


class BatchLoader(Generic[Key, Value]):
    def __init__(self, load_many: Callable[[Sequence[Key]], Coroutine[Any, Any, Sequence[Value]]]) -> None:
        """`ask` answers in the order of its questions. What it raises, all who asked together get."""
        self._load_many = load_many
        self._pending: list[tuple[Key, asyncio.Future[Value]]] = []
        self._current_batch: asyncio.Task[Sequence[Value]] | None = None

    async def __call__(self, key: Key) -> Value:
        """Raises TimeoutError, and what `ask` raises."""
        future: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._pending.append((key, future))
        if self._current_batch is None:
            self._start_batch()
        return await future

    def _start_batch(self) -> None:
        batch, self._pending = self._pending, []
        task = self._current_batch = asyncio.create_task(self._load_many([question for question, _ in batch]))
        futures = [mine for _, mine in batch]
        loop = asyncio.get_running_loop()
        timers = (
            loop.call_later(_NEXT_BATCH_AFTER_S, self._start_next_batch, task),
            loop.call_later(_LOAD_TIMEOUT_S, self._resolve_futures, futures, task),
        )
        task.add_done_callback(partial(self._finish_batch, futures, timers))

    def _finish_batch(
        self,
        futures: Sequence[asyncio.Future[Value]],
        timers: Sequence[asyncio.TimerHandle],
        task: asyncio.Task[Sequence[Value]],
    ) -> None:
        for timer in timers:
            timer.cancel()
        self._resolve_futures(futures, task)
        self._start_next_batch(task)

    def _start_next_batch(self, task: asyncio.Task[Sequence[Value]]) -> None:
        """Who waits need not wait for this call."""
        if task is self._current_batch:
            self._current_batch = None
            if self._pending:
                self._start_batch()

    def _resolve_futures(self, futures: Sequence[asyncio.Future[Value]], task: asyncio.Task[Sequence[Value]]) -> None:
        """The call is over, or it is too late for it."""
        succeeded_or_failed = task.done() and not task.cancelled()
        error = task.exception() if succeeded_or_failed else TimeoutError("no answer in time")
        # Not asyncio.timeout: it waits for what it cancelled, and that waits for a server which hangs.
        task.cancel()
        for number, future in enumerate(futures):
            if future.done():  # the request has gone meanwhile, or was told that it is too late
                continue
            if error is None:
                future.set_result(task.result()[number])
            else:
                future.set_exception(error)


class RowLoader:
    def __init__(self, engine: AsyncEngine) -> None:
        """`engine`: each statement its own transaction, so one round trip."""
        self._engine = engine
        self._loader_by_statement: dict[Executable, BatchLoader[Any, Row[Any] | None]] = {}

    async def load(self, statement: Executable, key: Any) -> Row[Any] | None:
        """The row of a key, as it is now. `statement`: made once; its first column is the key and equals one of the
        array `keys`. Raises what a database does that is away or does not answer."""
        if statement not in self._loader_by_statement:
            self._loader_by_statement[statement] = BatchLoader(partial(self._load_rows, statement))
        try:
            return await self._loader_by_statement[statement](key)
        except TimeoutError as error:
            raise NoAnswer(str(error)) from None

    async def _load_rows(self, statement: Executable, keys: Sequence[Any]) -> list[Row[Any] | None]:
        async with self._engine.connect() as database:
            row_by_key = {row[0]: row for row in await database.execute(statement, {"keys": list(set(keys))})}
        return [row_by_key.get(key) for key in keys]
