"""An account's requests take turns at the workers; another's find a free one."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from unveil.app.db.heartbeats import upsert_heartbeat
from unveil.app.security.concurrency_limiter import AccountConcurrencyLimiter, ConcurrencyLimitExceeded

pytestmark = pytest.mark.anyio


@pytest.fixture
async def limiter(service) -> AccountConcurrencyLimiter:
    """Two workers of two processes each: an account's share is three."""
    async with service.app_state.autocommit_engine.connect() as database:
        for name in ("one", "two"):
            await database.execute(
                upsert_heartbeat(name, ["encrypt", "ops"], service.app_state.keyring.primary_version, concurrency=2)
            )
        await database.execute(
            upsert_heartbeat("attack", ["attack"], service.app_state.keyring.primary_version, concurrency=8)
        )
    return AccountConcurrencyLimiter()


async def test_an_account_has_three_quarters_and_another_still_gets_in(service, limiter):
    async with AsyncExitStack() as held:
        for _ in range(3):
            await held.enter_async_context(limiter.slot(service.app_state.autocommit_engine, "greedy", 5))
        with pytest.raises(ConcurrencyLimitExceeded) as refused:
            await held.enter_async_context(limiter.slot(service.app_state.autocommit_engine, "greedy", 0.1))
        assert refused.value.headers["Retry-After"]
        async with limiter.slot(service.app_state.autocommit_engine, "quiet", 0.1):
            pass


async def test_what_is_soon_over_takes_every_process_while_no_other_asks_for_anything(service, limiter):
    async with AsyncExitStack() as held:
        limiter.record_activity("alone")
        for _ in range(4):
            await held.enter_async_context(limiter.slot(service.app_state.autocommit_engine, "alone", 0.1, short=True))
    limiter.record_activity("another")
    async with AsyncExitStack() as held:
        for _ in range(3):
            await held.enter_async_context(limiter.slot(service.app_state.autocommit_engine, "alone", 0.1, short=True))
        with pytest.raises(ConcurrencyLimitExceeded):
            await held.enter_async_context(limiter.slot(service.app_state.autocommit_engine, "alone", 0.1, short=True))


async def test_who_waits_goes_in_order_and_none_is_forgotten(service, limiter):
    done = []

    async def work(number):
        async with limiter.slot(service.app_state.autocommit_engine, "busy", 10):
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
    assert not limiter._in_flight
    assert not limiter._waiters


async def test_a_request_that_fails_gives_its_turn_back(service, limiter):
    for _ in range(5):
        with pytest.raises(ValueError, match="torn"):
            async with limiter.slot(service.app_state.autocommit_engine, "clumsy", 0.5):
                raise ValueError("torn")
