"""The HTTP service in this process, on a real database and Redis, with the worker's real functions in threads."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import redis
from celery import Celery
from fastapi import FastAPI

from unveil.app.accounts import service as accounts
from unveil.app.broker import TRAIN_KEY, TRANSFORM
from unveil.app.db.heartbeats import ATTACK, ENCRYPT
from unveil.app.dependencies import Services
from unveil.app.main import create_app
from unveil.app.security.principal import SCOPES
from unveil.app.settings import Settings
from unveil.worker import key_training
from unveil.worker.encryption import handlers
from unveil.worker.runtime import Runtime, make_runtime


class ThreadWorker:
    """Stands in for Celery's workers: a message starts the worker's function at once, in a thread of its own. Cells are
    run by the test that wants them run."""

    def __init__(self, tools: Runtime) -> None:
        self.tools = tools
        self.threads: list[threading.Thread] = []
        self._asleep = self._closed = False
        self._taking = threading.Lock()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    @property
    def asleep(self) -> bool:
        """Then it leaves the messages where they are."""
        return self._asleep

    @asleep.setter
    def asleep(self, asleep: bool) -> None:
        with self._taking:
            self._asleep = asleep

    def _listen(self) -> None:
        client = redis.Redis.from_url(self.tools.settings.redis_url)
        while not self._closed:
            # some tests take Redis away
            with suppress(redis.exceptions.ConnectionError, redis.exceptions.TimeoutError), self._taking:
                found: Any = None if self._asleep else client.brpop([ENCRYPT, ATTACK], timeout=0.05)
                if found is not None:
                    message = json.loads(found[1])
                    self._begin(message["headers"]["task"], json.loads(base64.b64decode(message["body"]))[0])
            time.sleep(0.001)  # for who waits for the lock
        client.close()

    def _begin(self, name: str, args: Sequence[Any]) -> None:
        handle = {TRANSFORM: handlers.handle, TRAIN_KEY: key_training.handle}.get(name)
        if handle is None:
            return
        thread = threading.Thread(target=handle, args=(self.tools, *args))
        self.threads.append(thread)
        thread.start()

    def wait(self) -> None:
        """Until everything sent so far is done."""
        with redis.Redis.from_url(self.tools.settings.redis_url) as client, suppress(redis.exceptions.ConnectionError):
            while self._waits(client):
                time.sleep(0.01)
        for thread in self.threads:
            thread.join()

    def _waits(self, client: redis.Redis) -> bool:
        with self._taking:
            return not self._asleep and bool(client.exists(ENCRYPT, ATTACK))

    def close(self) -> None:
        try:
            self.wait()
        finally:
            self._closed = True
            self._listener.join()
        engine = self.tools.sessions.kw["bind"]
        engine.dispose()


@dataclass
class Running:
    app: FastAPI
    services: Services
    worker: ThreadWorker

    def client(self, token: str | None = None, **headers: str) -> httpx.AsyncClient:
        if token:
            headers["Authorization"] = f"Bearer {token}"
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://unveil.test", headers=headers, timeout=60)

    async def account(self, name: str = "owner", scopes: Sequence[Any] = SCOPES) -> str:
        """A new account's token."""
        async with self.services.sessions() as session:
            made = await accounts.create(session, self.services.ring, name, scopes)
            await session.commit()
        return made.token


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        with closing(ThreadWorker(make_runtime(settings, Celery("test")))) as worker:
            yield Running(app, app.state.services, worker)
