"""Rows that requests look up by one key, the busier the more of them in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import Executable, Row
from sqlalchemy.exc import TimeoutError as NoAnswer
from sqlalchemy.ext.asyncio import AsyncEngine

from unveil.app.batching import Together


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
