"""Real servers for the tests: embedded ones, or those that UNVEIL_TEST_DATABASE_URL and UNVEIL_TEST_REDIS_URL name.

The given PostgreSQL role must be allowed to create databases; of the given Redis, the numbered databases are flushed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import conninfo, sql

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


@contextmanager
def object_store(log: Path) -> Iterator[str]:
    """The address of a server that speaks S3, empty."""
    command = [Path(sys.executable).with_name("moto_server"), "--host", "127.0.0.1", "--port", "0"]
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
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
    """As an operator does it: the command, on the address in the environment."""
    subprocess.run(
        [sys.executable, "-m", "unveil.app.db.migrate", revision],
        env={**os.environ, "UNVEIL_DATABASE_URL": url}, check=True,
    )  # fmt: skip
