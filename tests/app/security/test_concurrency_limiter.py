"""An account's requests take turns at the workers; another's find a free one."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from unveil.app.db.heartbeats import arrival
from unveil.app.security.concurrency_limiter import TooManyAtOnce, Turns

pytestmark = pytest.mark.anyio


@pytest.fixture
async def turns(service) -> Turns:
    """Two workers of two processes each: an account's share is three."""
    async with service.services.autocommit.connect() as database:
        for name in ("one", "two"):
            await database.execute(arrival(name, "encrypt,ops", service.services.ring.current, slots=2))
        await database.execute(arrival("attack", "attack", service.services.ring.current, slots=8))
    return Turns()


async def test_an_account_has_three_quarters_and_another_still_gets_in(service, turns):
    async with AsyncExitStack() as held:
        for _ in range(3):
            await held.enter_async_context(turns.turn(service.services.autocommit, "greedy", 5))
        with pytest.raises(TooManyAtOnce) as refused:
            await held.enter_async_context(turns.turn(service.services.autocommit, "greedy", 0.1))
        assert refused.value.headers["Retry-After"]
        async with turns.turn(service.services.autocommit, "quiet", 0.1):
            pass


async def test_what_is_soon_over_takes_every_process_while_no_other_asks_for_anything(service, turns):
    async with AsyncExitStack() as held:
        turns.see("alone")
        for _ in range(4):
            await held.enter_async_context(turns.turn(service.services.autocommit, "alone", 0.1, brief=True))
    turns.see("another")
    async with AsyncExitStack() as held:
        for _ in range(3):
            await held.enter_async_context(turns.turn(service.services.autocommit, "alone", 0.1, brief=True))
        with pytest.raises(TooManyAtOnce):
            await held.enter_async_context(turns.turn(service.services.autocommit, "alone", 0.1, brief=True))


async def test_who_waits_goes_in_order_and_none_is_forgotten(service, turns):
    done = []

    async def work(number):
        async with turns.turn(service.services.autocommit, "busy", 10):
            await asyncio.sleep(0.01)
            done.append(number)

    await work(-1)
    tasks = [asyncio.create_task(work(number)) for number in range(20)]
    await asyncio.sleep(0.015)
    for gone in tasks[5:8]:
        gone.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(done) >= 17
    assert done == sorted(done)
    assert not turns._at_work
    assert not turns._waiting


async def test_a_request_that_fails_gives_its_turn_back(service, turns):
    for _ in range(5):
        with pytest.raises(ValueError, match="torn"):
            async with turns.turn(service.services.autocommit, "clumsy", 0.5):
                raise ValueError("torn")
