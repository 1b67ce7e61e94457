"""A worker's tools on a fresh database and an empty broker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.factories import make_account
from unveil.app import broker
from unveil.app.settings import Settings
from unveil.worker import shutdown
from unveil.worker.runtime import Runtime, make_runtime


@pytest.fixture
def tools(settings: Settings) -> Iterator[Runtime]:
    celery = broker.celery_app(settings)
    tools = make_runtime(settings, celery)
    yield tools
    tools.sessions.kw["bind"].dispose()
    celery.close()
    shutdown.requested.clear()


@pytest.fixture
def other(tools: Runtime) -> Runtime:
    """Another worker on the same database."""
    return replace(tools, owner="another/1/worker")


@pytest.fixture
def account(tools: Runtime) -> str:
    return make_account(tools.sessions)
