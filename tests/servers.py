"""Real servers for the tests: embedded ones, or those that UNVEIL_TEST_DATABASE_URL and UNVEIL_TEST_REDIS_URL name.

The given PostgreSQL role must be allowed to create databases; of the given Redis, the numbered databases are flushed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch
from uuid import uuid4

import psycopg
from alembic import command
from psycopg import conninfo, sql

from unveil.app.db.migrate import alembic_config
from unveil.app.db.tables import Base
from unveil.app.local.servers import Postgres, Redis


@contextmanager
def postgres(state: Path) -> Iterator[str]:
    """The address of a server on which databases may be made."""
    given = os.environ.get("UNVEIL_TEST_DATABASE_URL")
    if given:
        yield given
    else:
        with Postgres(state, durable=False) as server:
            yield server.url


@contextmanager
def redis(state: Path, number: int) -> Iterator[str]:
    """The address of a Redis that no other test process uses; a given one is shared by database number."""
    given = os.environ.get("UNVEIL_TEST_REDIS_URL")
    if given:
        yield f"{given.rstrip('/').removesuffix('/0')}/{number}"
    else:
        with Redis(state, durable=False) as server:
            yield server.url


@contextmanager
def database(server_url: str, template: str | None = None) -> Iterator[str]:
    """A database of its own, empty or a copy of `template`; dropped afterwards with whoever is still connected."""
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as admin:
        # STRATEGY file_copy takes a third of the time for a small template
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
                sql.Identifier(name), sql.Identifier(template or "template0")
            )
        )
    try:
        yield on_database(server_url, name)
    finally:
        _drop(server_url, name)


class ReusedDatabase:
    """A migrated database that is emptied after each test, which takes a tenth of the work of a fresh copy."""

    _MAX_GROWTH_BYTES = 4 * 2**20  # beyond it a copy takes less time than emptying the tables, and leaves no gaps
    _TERMINATE_OTHERS = """
        SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
    """
    _DESCRIBE_SCHEMA = """
        SELECT (SELECT string_agg(version_num, ',') FROM alembic_version),
            (SELECT count(*) FROM pg_attribute WHERE attrelid IN (
                SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace) AND NOT attisdropped)
    """
    _SUM_SIZES = "SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    _DELETE_ROWS = ";".join(f"DELETE FROM {table.name}" for table in reversed(Base.metadata.sorted_tables))

    def __init__(self, server_url: str, template: str) -> None:
        self._server_url, self._template = server_url, template
        self._copy = ExitStack()
        self._make_copy()

    def _make_copy(self) -> None:
        self._copy.close()
        self.url = self._copy.enter_context(database(self._server_url, self._template))
        with psycopg.connect(self.url) as connection:
            self._schema = connection.execute(self._DESCRIBE_SCHEMA).fetchone()
            ((self._size,),) = connection.execute(self._SUM_SIZES).fetchall()

    def empty(self) -> None:
        """Leave the database as a fresh copy of the template: without rows, without connections, of the same schema."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(self._TERMINATE_OTHERS)
            try:
                is_same = connection.execute(self._DESCRIBE_SCHEMA).fetchone() == self._schema
            except psycopg.errors.UndefinedTable:
                is_same = False
            ((size,),) = connection.execute(self._SUM_SIZES).fetchall()
            if is_same and size < self._size + self._MAX_GROWTH_BYTES:
                connection.execute(self._DELETE_ROWS)
                return
        self._make_copy()

    def close(self) -> None:
        self._copy.close()


@contextmanager
def object_store(log: Path) -> Iterator[str]:
    """The address of a server that speaks S3, empty."""
    moto = [Path(sys.executable).with_name("moto_server"), "--host", "127.0.0.1", "--port", "0"]
    with log.open("wb") as out:
        server = subprocess.Popen(moto, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        while (found := re.search(r"Running on (\S+)", log.read_text())) is None:
            assert server.poll() is None, log.read_text()
            time.sleep(0.05)
        yield found[1]
    finally:
        server.terminate()
        server.wait(10)


def _drop(server_url: str, name: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    with psycopg.connect(server_url, autocommit=True) as admin:
        while True:
            try:
                admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
                return
            except psycopg.errors.InsufficientPrivilege:  # autovacuum is in it, which an ordinary role may not end
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def on_database(server_url: str, name: str) -> str:
    """The same server, another database."""
    head, _, tail = server_url.partition("://")
    address, _, query = tail.partition("?")
    return f"{head}://{address.split('/')[0]}/{name}" + (f"?{query}" if query else "")


def name_of(url: str) -> str:
    return str(conninfo.conninfo_to_dict(url)["dbname"])


def migrate(url: str, revision: str = "head") -> None:
    # As in a process of its own, whose warnings fail no test.
    with patch.dict(os.environ, UNVEIL_DATABASE_URL=url), warnings.catch_warnings():
        warnings.simplefilter("default")
        command.upgrade(alembic_config(), revision)
