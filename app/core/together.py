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

_PATIENCE_S = 10.0  # then who asked is told so, and the next may be luckier

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
        # Not asyncio.timeout: it waits for what it cancelled, and that waits for a server which hangs.
        end = partial(self._end, [mine for _, mine in asked])
        late = asyncio.get_running_loop().call_later(_PATIENCE_S, end, call)
        call.add_done_callback(lambda _: late.cancel())
        call.add_done_callback(end)

    def _end(self, askers: Sequence[asyncio.Future[Answer]], call: asyncio.Task[Sequence[Answer]]) -> None:
        """The call is over, or it is too late for it."""
        over = call.done() and not call.cancelled()
        error = call.exception() if over else TimeoutError("no answer in time")
        if call is not self._call:  # given up before
            return
        self._call = None
        call.cancel()
        for number, asker in enumerate(askers):
            if asker.done():  # the request has gone meanwhile
                continue
            if error is None:
                asker.set_result(call.result()[number])
            else:
                asker.set_exception(error)
        if self._waiting:
            self._begin()
