"""The fixtures keep their promises: each test has its own database with the current schema, and an empty Redis."""

from __future__ import annotations

import psycopg
import pytest
import redis

from tests import servers
from unveil.app.settings import Settings


@pytest.mark.parametrize("turn", [1, 2])
def test_a_test_sees_no_rows_of_another(settings: Settings, turn: int) -> None:
    with psycopg.connect(settings.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM accounts").fetchone() == (0,)
        connection.execute("INSERT INTO accounts (id, name) VALUES ('acc_1', 'ours')")
    with redis.Redis.from_url(settings.redis_url) as client:
        assert client.dbsize() == 0
        client.set("ours", turn)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://u:p@127.0.0.1:5432/unveil", "postgresql://u:p@127.0.0.1:5432/other"),
        ("postgresql://u@/unveil?host=/run/pg", "postgresql://u@/other?host=/run/pg"),
    ],
)
def test_another_database_of_the_same_server(given: str, expected: str) -> None:
    assert servers.on_database(given, "other") == expected
