"""Questions asked as one, in this process and through a real database that hangs."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from sqlalchemy import text

from unveil.app import batching
from unveil.app.batching import BatchLoader

pytestmark = pytest.mark.anyio


class BlockingLoader:
    """Answers with the hour at which it was asked, once it is let."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.hour = 0
        self.open = asyncio.Event()

    async def load(self, questions):
        self.calls.append([*questions])
        hour = self.hour
        await self.open.wait()
        return [(question, hour) for question in questions]


async def start_loads(ask, *questions):
    tasks = [asyncio.create_task(ask(question)) for question in questions]
    await asyncio.sleep(0.01)
    return tasks


async def test_what_is_asked_meanwhile_goes_together_and_is_answered_as_of_then():
    oracle = BlockingLoader()
    ask = BatchLoader(oracle.load)
    first = await start_loads(ask, 0)
    oracle.hour = 1
    others = await start_loads(ask, *range(1, 50))
    oracle.open.set()
    assert await asyncio.gather(*first, *others) == [(0, 0), *((number, 1) for number in range(1, 50))]
    assert oracle.calls == [[0], [*range(1, 50)]]


async def test_an_error_is_for_those_who_asked_together_and_the_next_is_served():
    async def invert(questions):
        return [1 / question for question in questions]

    ask = BatchLoader(invert)
    first, *others = await start_loads(ask, 4, 2, 0)
    assert await first == 0.25
    for other in others:
        with pytest.raises(ZeroDivisionError):
            await other
    assert await ask(1) == 1.0


async def test_who_goes_away_disturbs_nobody():
    oracle = BlockingLoader()
    ask = BatchLoader(oracle.load)
    gone, first = (await start_loads(ask, 0))[0], await start_loads(ask, 1, 2)
    gone.cancel()
    first[0].cancel()
    oracle.open.set()
    assert await first[1] == (2, 0)


async def test_a_call_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(batching, "_LOAD_TIMEOUT_S", 0.1)
    oracle = BlockingLoader()
    ask = BatchLoader(oracle.load)
    tasks = await start_loads(ask, 0, 1)
    for task in tasks:
        with pytest.raises(TimeoutError):
            await task
    oracle.open.set()
    assert await ask(2) == (2, 0)


async def test_a_call_that_hangs_holds_up_no_other(monkeypatch):
    monkeypatch.setattr(batching, "_NEXT_BATCH_AFTER_S", 0.05)
    hangs = asyncio.Event()

    async def answer(questions):
        if 0 in questions:
            await hangs.wait()
        return [-question for question in questions]

    ask = BatchLoader(answer)
    first, *others = await start_loads(ask, 0, 1, 2)
    async with asyncio.timeout(1):
        assert await asyncio.gather(*others, ask(3)) == [-1, -2, -3]
    assert not first.done()
    hangs.set()
    assert await first == 0


async def test_a_database_that_hangs_is_told_of_and_a_new_connection_serves_the_next(service, client, monkeypatch):
    monkeypatch.setattr(batching, "_LOAD_TIMEOUT_S", 0.5)
    own = text("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
    with service.worker.runtime.sessions() as session:
        processes = session.scalars(own).all()
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        refused = await client.get("/keys")
        assert refused.status_code == 503
        assert "database" in refused.json()["detail"]
        assert refused.headers["Retry-After"]
        for _ in processes:  # each connection of the pool is found out once
            if (await client.get("/keys")).status_code == 200:
                break
        assert (await client.get("/keys")).status_code == 200
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)
