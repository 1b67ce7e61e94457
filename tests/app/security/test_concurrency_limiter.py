"""An account occupies at most its part of the encryption slots, so that another account finds a free one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial

import pytest

from unveil.app.db.heartbeats import upsert_heartbeat
from unveil.app.errors.problem import TooManyAtOnce
from unveil.app.security.concurrency_limiter import AccountConcurrencyLimiter

pytestmark = pytest.mark.anyio

Slot = Callable[..., AbstractAsyncContextManager[None]]


@pytest.fixture
async def limiter(service) -> AccountConcurrencyLimiter:
    """Two workers with two slots each: an account may use three of the four."""
    version = service.app_state.keyring.primary_version
    async with service.app_state.autocommit_engine.connect() as connection:
        for name in ("one", "two"):
            await connection.execute(upsert_heartbeat(name, ["encrypt", "ops"], version, concurrency=2))
        await connection.execute(upsert_heartbeat("attack", ["attack"], version, concurrency=8))
    return AccountConcurrencyLimiter()


@pytest.fixture
def slot(service, limiter) -> Slot:
    return partial(limiter.slot, service.app_state.autocommit_engine)


async def test_an_account_gets_three_quarters_and_another_account_gets_the_rest(slot):
    async with AsyncExitStack() as held:
        for _ in range(3):
            await held.enter_async_context(slot("busy", 5))
        with pytest.raises(TooManyAtOnce) as refused:
            await held.enter_async_context(slot("busy", 0.1))
        assert refused.value.headers["Retry-After"]
        async with slot("quiet", 0.1):
            pass


async def test_short_requests_use_every_slot_while_no_other_account_is_active(slot, limiter):
    limiter.record_activity("alone")
    for _ in range(2):  # the reserve comes back
        async with AsyncExitStack() as held:
            for _ in range(4):
                await held.enter_async_context(slot("alone", 0.1, short=True))
            with pytest.raises(TooManyAtOnce):
                await held.enter_async_context(slot("alone", 0.1, short=True))


async def test_long_requests_never_use_the_reserve(slot, limiter):
    limiter.record_activity("alone")
    async with AsyncExitStack() as held:
        for _ in range(3):
            await held.enter_async_context(slot("alone", 0.1))
        with pytest.raises(TooManyAtOnce):
            await held.enter_async_context(slot("alone", 0.1))


async def test_the_reserve_is_not_lent_while_another_account_is_active(slot, limiter):
    limiter.record_activity("busy")
    limiter.record_activity("another")
    async with AsyncExitStack() as held:
        for _ in range(3):
            await held.enter_async_context(slot("busy", 0.1, short=True))
        with pytest.raises(TooManyAtOnce):
            await held.enter_async_context(slot("busy", 0.1, short=True))
        async with slot("another", 0.1, short=True):
            pass


async def test_waiting_requests_run_in_order_and_a_cancelled_one_loses_no_slot(slot, limiter):
    done = []

    async def work(number):
        async with slot("busy", 10):
            await asyncio.sleep(0.01)
            done.append(number)

    await work(-1)
    assert not limiter._slots_by_account, "an idle account takes no memory"
    tasks = [asyncio.create_task(work(number)) for number in range(20)]
    await asyncio.sleep(0.015)
    for task in tasks[5:8]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(done) >= 17
    assert done == sorted(done)


async def test_a_request_that_fails_releases_its_slot(slot):
    for _ in range(5):
        with pytest.raises(ValueError, match="failed"):
            async with slot("busy", 0.5):
                raise ValueError("failed")
