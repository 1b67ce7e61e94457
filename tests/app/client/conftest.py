"""A client of the running service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from unveil.app.client.client import Client
from unveil.app.local.stack import LocalStack


@pytest.fixture
def client(stack: LocalStack) -> Iterator[Client]:
    with Client(stack.url, stack.token) as made:
        yield made
