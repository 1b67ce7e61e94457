"""Concurrent lookups share a query; one that hangs delays nobody else, in this process and with a real database."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from sqlalchemy import text

from unveil.app import batching
from unveil.app.batching import BatchLoader

pytestmark = pytest.mark.anyio


class BlockingSource:
    """Returns each key with the version at the start of the call, once `released` is set."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.version = 0
        self.released = asyncio.Event()

    async def load_many(self, keys):
        self.calls.append([*keys])
        version = self.version
        await self.released.wait()
        return [(key, version) for key in keys]


async def start_loads(loader, *keys):
    tasks = [asyncio.create_task(loader.load(key)) for key in keys]
    await asyncio.sleep(0.01)
    return tasks


async def test_keys_that_arrive_during_a_call_share_the_next_call_and_get_fresh_values():
    source = BlockingSource()
    loader = BatchLoader(source.load_many)
    first = await start_loads(loader, 0)
    source.version = 1
    others = await start_loads(loader, *range(1, 50))
    source.released.set()
    assert await asyncio.gather(*first, *others) == [(0, 0), *((key, 1) for key in range(1, 50))]
    assert source.calls == [[0], [*range(1, 50)]]


async def test_an_error_fails_its_batch_and_not_the_next_one():
    async def invert(keys):
        return [1 / key for key in keys]

    loader = BatchLoader(invert)
    first, *others = await start_loads(loader, 4, 2, 0)
    assert await first == 0.25
    for other in others:
        with pytest.raises(ZeroDivisionError):
            await other
    assert await loader.load(1) == 1.0


async def test_a_cancelled_load_disturbs_no_other():
    source = BlockingSource()
    loader = BatchLoader(source.load_many)
    (first,), others = await start_loads(loader, 0), await start_loads(loader, 1, 2)
    first.cancel()
    others[0].cancel()
    source.released.set()
    assert await others[1] == (2, 0)


async def test_a_call_that_hangs_times_out(monkeypatch):
    monkeypatch.setattr(batching, "_LOAD_TIMEOUT_S", 0.1)
    source = BlockingSource()
    loader = BatchLoader(source.load_many)
    for task in await start_loads(loader, 0, 1):
        with pytest.raises(TimeoutError):
            await task
    source.released.set()
    assert await loader.load(2) == (2, 0)


async def test_a_call_that_ignores_its_cancellation_times_out_too(monkeypatch):
    """A database driver that is cancelled waits for its server."""
    monkeypatch.setattr(batching, "_LOAD_TIMEOUT_S", 0.1)
    released = asyncio.Event()

    async def load_many(keys):
        try:
            await released.wait()
        except asyncio.CancelledError:
            await released.wait()
            raise
        return keys

    loader = BatchLoader(load_many)
    async with asyncio.timeout(60):
        with pytest.raises(TimeoutError):
            await loader.load(0)
    released.set()
    assert await loader.load(1) == 1


async def test_a_call_that_hangs_does_not_delay_the_next_one(monkeypatch):
    monkeypatch.setattr(batching, "_NEXT_BATCH_AFTER_S", 0.05)
    released = asyncio.Event()

    async def negate(keys):
        if 0 in keys:
            await released.wait()
        return [-key for key in keys]

    loader = BatchLoader(negate)
    first, *others = await start_loads(loader, 0, 1, 2)
    async with asyncio.timeout(60):
        assert await asyncio.gather(*others, loader.load(3)) == [-1, -2, -3]
    assert not first.done()
    released.set()
    assert await first == 0


async def test_a_database_that_hangs_is_a_503_and_a_new_connection_serves_the_next_request(
    service, client, monkeypatch
):
    monkeypatch.setattr(batching, "_LOAD_TIMEOUT_S", 0.5)
    monkeypatch.setattr(batching, "_NEXT_BATCH_AFTER_S", 0.1)
    others = text("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
    with service.worker.runtime.sessions() as session:
        processes = session.scalars(others).all()
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        refused = await client.get("/keys")
        assert refused.status_code == 503
        assert "database" in refused.json()["detail"]
        assert refused.headers["Retry-After"]
        async with asyncio.timeout(120):  # each pooled connection times out once
            while (await client.get("/keys")).status_code != 200:
                pass
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)
