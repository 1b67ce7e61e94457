"""Coalesces concurrent lookups into one query (DataLoader); results are not cached.

    loader = BatchLoader(load_rows_by_id)  # coroutine function: many keys in, one value for each key out, in that order
    row = await loader.load(id)

aiodataloader sends the keys of every event-loop iteration as a query of its own, so a busy service needs a connection
for each iteration. Here keys wait while a query is running, and the next query takes all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from sqlalchemy import Executable, Row
from sqlalchemy.exc import TimeoutError as DatabaseTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

_NEXT_BATCH_AFTER_S = 1.0  # so that one connection that hangs does not delay the lookups behind it
_LOAD_TIMEOUT_S = 10.0

Key = TypeVar("Key")
Value = TypeVar("Value")


class BatchLoader(Generic[Key, Value]):
    """Loads one batch at a time; the next one starts when it ends, or after a second."""

    def __init__(self, load_many: Callable[[Sequence[Key]], Coroutine[Any, Any, Sequence[Value]]]) -> None:
        self._load_many = load_many
        self._pending: list[tuple[Key, asyncio.Future[Value]]] = []
        self._current_batch: asyncio.Task[None] | None = None

    async def load(self, key: Key) -> Value:
        """Raises TimeoutError, or what `load_many` raised for the batch of this key."""
        future: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._pending.append((key, future))
        if self._current_batch is None:
            self._start_batch()
        async with asyncio.timeout(_LOAD_TIMEOUT_S):
            return await future

    def _start_batch(self) -> None:
        batch, self._pending = self._pending, []
        task = self._current_batch = asyncio.create_task(self._load_batch(batch))
        task.add_done_callback(self._start_next_batch)
        asyncio.get_running_loop().call_later(_NEXT_BATCH_AFTER_S, self._start_next_batch, task)

    def _start_next_batch(self, task: asyncio.Task[None]) -> None:
        if task is self._current_batch:
            self._current_batch = None
            if self._pending:
                self._start_batch()

    async def _load_batch(self, batch: Sequence[tuple[Key, asyncio.Future[Value]]]) -> None:
        try:
            async with asyncio.timeout(_LOAD_TIMEOUT_S):
                values = await self._load_many([key for key, _ in batch])
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), value in zip(batch, values, strict=True):
                if not future.done():  # its request has ended or timed out
                    future.set_result(value)


class RowLoader:
    """Loads rows by key, with one `BatchLoader` for each statement."""

    def __init__(self, engine: AsyncEngine) -> None:
        """`engine` must be in autocommit mode, so that a lookup is one round trip."""
        self._engine = engine
        self._loader_by_statement: dict[Executable, BatchLoader[Any, Row[Any] | None]] = {}

    async def load(self, statement: Executable, key: Any) -> Row[Any] | None:
        """The row of `key` at this moment, or None. Raises the errors of SQLAlchemy.

        `statement` is a module constant. Its first column is the key; it selects the keys of the array `keys`.
        """
        if statement not in self._loader_by_statement:
            self._loader_by_statement[statement] = BatchLoader(partial(self._load_rows, statement))
        try:
            return await self._loader_by_statement[statement].load(key)
        except TimeoutError as error:
            raise DatabaseTimeout("the database did not respond in time") from error

    async def _load_rows(self, statement: Executable, keys: Sequence[Any]) -> list[Row[Any] | None]:
        async with self._engine.connect() as connection:
            row_by_key = {row[0]: row for row in await connection.execute(statement, {"keys": list(set(keys))})}
        return [row_by_key.get(key) for key in keys]
