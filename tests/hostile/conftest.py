"""One service for a module: real server, database and Redis; the worker's function runs in threads beside it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis
import uvicorn
from celery import Celery
from fastapi import FastAPI
from sqlalchemy import Engine

from tests import servers
from tests.app.service import ThreadWorker
from tests.conftest import UNLIMITED_PER_SECOND
from tests.factories import ALL_SCOPES, make_account, make_token
from unveil.app.db.tables import ProcessHeartbeat
from unveil.app.http.connections import KEEP_ALIVE_S
from unveil.app.main import create_app
from unveil.app.settings import Settings
from unveil.worker.lease import seconds_from_now
from unveil.worker.runtime import Runtime, make_runtime

NO_RECEIVER = "http://127.0.0.1:9/"  # of webhooks: nothing listens there


@dataclass(frozen=True)
class Target:
    app: FastAPI
    url: str
    settings: Settings
    runtime: Runtime
    worker: ThreadWorker

    @property
    def engine(self) -> Engine:
        bound: Engine = self.runtime.sessions.kw["bind"]
        return bound

    def account(self, name: str, scopes: list[str] = ALL_SCOPES) -> str:
        """A new account's token."""
        return make_token(
            self.runtime.sessions, self.runtime.keyring, make_account(self.runtime.sessions, name), scopes
        )

    def client(self, token: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=300)


@pytest.fixture(scope="module")
def target(
    postgres_url: str, template_database: str, redis_server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    folder: Path = tmp_path_factory.mktemp("target")
    with redis.Redis.from_url(redis_server_url) as client:
        client.flushdb()
    with servers.database(postgres_url, template_database) as database_url:
        settings = Settings(
            database_url=database_url,
            redis_url=redis_server_url,
            blob_url=(folder / "blobs").as_uri(),
            data_dir=folder / "data",
            requests_per_second=UNLIMITED_PER_SECOND,
            anonymous_requests_per_second=UNLIMITED_PER_SECOND,
            webhook_allowed_networks="127.0.0.1/32",
        )
        app = create_app(settings)
        runtime = make_runtime(settings, Celery("target"))
        with runtime.sessions.begin() as session:  # the worker is a thread of ours, and says nothing of itself
            session.add(ProcessHeartbeat(name="thread", queues=["encrypt"], seen_at=seconds_from_now(24 * 3600)))
        server = uvicorn.Server(
            uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=2, timeout_keep_alive=KEEP_ALIVE_S)
        )
        thread = threading.Thread(target=server.run)
        with closing(ThreadWorker(runtime)) as worker:
            thread.start()
            while not server.started and thread.is_alive():
                thread.join(0.01)
            try:
                url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
                yield Target(app, url, settings, runtime, worker)
            finally:
                server.should_exit = True
                thread.join()
