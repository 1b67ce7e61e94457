"""The service in this process: `service` for what it holds, `client` for a caller with every scope."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from celery import Celery

from tests.app.service import RunningService, run_service
from tests.sample_images import png
from unveil.app.local.stack import LocalStack
from unveil.app.settings import Settings
from unveil.worker.runtime import Runtime, make_runtime


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    """What a process works with that runs all the time."""
    runtime = make_runtime(settings, Celery("test"))
    yield runtime
    runtime.sessions.kw["bind"].dispose()


@pytest.fixture
async def service(settings: Settings, anyio_backend: str) -> AsyncIterator[RunningService]:
    async with run_service(settings) as started:
        yield started


@pytest.fixture
def truncated_dataset(stack: LocalStack) -> Iterator[str]:
    """A dataset of the operator's that can be ordered; a worker finds an image that is cut off."""
    folder = stack.state / "data" / "half"
    folder.mkdir(parents=True)
    for i in range(4):
        (folder / f"{i}.png").write_bytes(png(i))
    (folder / "cut.png").write_bytes(png(4)[:-30])
    yield folder.name
    shutil.rmtree(folder)


@pytest.fixture
async def client(service: RunningService) -> AsyncIterator[httpx.AsyncClient]:
    async with service.client(await service.create_account()) as made:
        yield made
