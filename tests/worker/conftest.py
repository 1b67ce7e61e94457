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
def runtime(settings: Settings) -> Iterator[Runtime]:
    celery = broker.make_celery_app(settings)
    runtime = make_runtime(settings, celery)
    yield runtime
    runtime.sessions.kw["bind"].dispose()
    celery.close()
    shutdown.requested.clear()


@pytest.fixture
def other_runtime(runtime: Runtime) -> Runtime:
    """Another worker on the same database."""
    return replace(runtime, owner="another/1/worker")


@pytest.fixture
def account(runtime: Runtime) -> str:
    return make_account(runtime.sessions)
