"""The HTTP service in this process, on a real database and Redis, with the worker's real functions in threads."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import redis
from celery import Celery
from fastapi import FastAPI
from sqlalchemy import select

from unveil.app import broker
from unveil.app.accounts import service as accounts
from unveil.app.db.heartbeats import ATTACK_QUEUE, ENCRYPT_QUEUE
from unveil.app.db.tables import Key
from unveil.app.dependencies import AppState
from unveil.app.evaluations.sse import StreamLimiter
from unveil.app.main import create_app
from unveil.app.ops import health
from unveil.app.security.principal import SCOPES
from unveil.app.settings import Settings
from unveil.worker import jobs, key_training, lease
from unveil.worker.encryption import handlers
from unveil.worker.runtime import Runtime, make_runtime


class ThreadWorker:
    """Stands in for Celery's workers: a message starts the worker's function at once, in a thread of its own. Cells are
    run by the test that wants them run."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.threads: list[threading.Thread] = []
        self._paused = self._is_closed = False
        self._lock = threading.Lock()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    @property
    def paused(self) -> bool:
        """Then it leaves the messages where they are."""
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        with self._lock:
            self._paused = paused

    def _listen(self) -> None:
        client = redis.Redis.from_url(self.runtime.settings.redis_url)
        while not self._is_closed:
            # some tests take Redis away
            with suppress(redis.exceptions.ConnectionError, redis.exceptions.TimeoutError), self._lock:
                popped: Any = None if self._paused else client.brpop([ENCRYPT_QUEUE, ATTACK_QUEUE], timeout=0.05)
                if popped is not None:
                    message = json.loads(popped[1])
                    self._start(message["headers"]["task"], json.loads(base64.b64decode(message["body"]))[0])
            time.sleep(0.001)  # for who waits for the lock
        client.close()

    def _start(self, name: str, args: Sequence[Any]) -> None:
        handle = {broker.HANDLE_REQUEST: handlers.handle_request, broker.RUN_NEXT_JOB: train_next_key}[name]
        thread = threading.Thread(target=handle, args=(self.runtime, *args))
        self.threads.append(thread)
        thread.start()

    def wait(self) -> None:
        """Until everything sent so far is done."""
        with (
            redis.Redis.from_url(self.runtime.settings.redis_url) as client,
            suppress(redis.exceptions.ConnectionError),
        ):
            while self._has_messages(client):
                time.sleep(0.01)
        for thread in self.threads:
            thread.join()

    def _has_messages(self, client: redis.Redis) -> bool:
        with self._lock:
            return not self._paused and bool(client.exists(ENCRYPT_QUEUE, ATTACK_QUEUE))

    def close(self) -> None:
        try:
            self.wait()
        finally:
            self._is_closed = True
            self._listener.join()
        engine = self.runtime.sessions.kw["bind"]
        engine.dispose()


def train_next_key(runtime: Runtime) -> None:
    """Run the next job if it trains a key; cells are run by the test that wants them run."""
    with runtime.sessions() as session:
        key_id = session.scalar(select(Key.id).where(lease.claimable(Key)).order_by(Key.id).limit(1))
    if key_id is not None:
        jobs.run_job(runtime, key_id, key_training.claim)


@dataclass
class RunningService:
    app: FastAPI
    app_state: AppState
    worker: ThreadWorker

    def client(self, token: str | None = None, **headers: str) -> httpx.AsyncClient:
        if token:
            headers["Authorization"] = f"Bearer {token}"
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://unveil.test", headers=headers, timeout=300)

    async def create_account(self, name: str = "owner", scopes: Sequence[Any] = SCOPES) -> str:
        """A new account's token."""
        async with self.app_state.sessions() as session:
            created = await accounts.create(session, self.app_state.keyring, name, scopes)
            await session.commit()
        return created.token


_idle_apps: dict[tuple[object, ...], tuple[FastAPI, Settings]] = {}


@contextmanager
def application(settings: Settings) -> Iterator[FastAPI]:
    """The application with these settings. Its routes are built once in a process: that takes longer than most tests.

    An application keeps the settings that it was created with, so that their values are replaced for the next test.
    """
    bound = (settings.max_body_bytes, settings.max_upload_bytes, settings.root_path)  # to routes and middleware
    app, held = _idle_apps.pop(bound, (None, settings.model_copy()))
    if app is None:
        app = create_app(held)
    vars(held).update(vars(settings))
    app.state.readiness, app.state.streams = health.Readiness(), StreamLimiter(settings.max_event_streams)
    yield app
    _idle_apps[bound] = app, held


@asynccontextmanager
async def run_service(settings: Settings) -> AsyncIterator[RunningService]:
    with application(settings) as app:
        async with app.router.lifespan_context(app):
            with closing(ThreadWorker(make_runtime(settings, Celery("test")))) as worker:
                yield RunningService(app, app.state.app_state, worker)
