"""The service in this process: `service` for what it holds, `client` for a caller with every scope."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from celery import Celery

from app.settings import Settings
from tests.app.service import Running, running
from worker.runtime import Runtime, make_runtime


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def tools(settings: Settings) -> Iterator[Runtime]:
    """What a process works with that runs all the time."""
    tools = make_runtime(settings, Celery("test"))
    yield tools
    tools.sessions.kw["bind"].dispose()


@pytest.fixture
async def service(settings: Settings, anyio_backend: str) -> AsyncIterator[Running]:
    async with running(settings) as started:
        yield started


@pytest.fixture
async def client(service: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with service.client(await service.account()) as made:
        yield made
