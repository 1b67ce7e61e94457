"""The service on a real socket (events are a stream), database and broker; cells are run here, when a test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from tests.app.service import application
from tests.factories import ALL_SCOPES, make_account, make_token
from tests.jobs import run_cell
from unveil.app.broker import make_celery_app
from unveil.app.http.connections import KEEP_ALIVE_S
from unveil.app.settings import Settings
from unveil.models import catalog
from unveil.worker.runtime import Runtime, make_runtime

ORDER: dict[str, Any] = {
    "name": "audit 1",
    "schemes": [{"name": "pixelwise", "key_mode": "same"}, {"name": "tanaka"}],
    "attacks": [{"name": "none"}, {"name": "fr"}, {"name": "brute-force"}],
    "dataset": "sample", "profile": "smoke", "samples": 2, "keys": 2,
}  # fmt: skip


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    celery = make_celery_app(settings)
    runtime = make_runtime(settings, celery)
    yield runtime
    runtime.sessions.kw["bind"].dispose()
    celery.close()


@pytest.fixture
def full_profile() -> None:
    """Evaluations get every attack that their profile requires."""


@pytest.fixture(autouse=True)
def small_profile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Profiles require the unattacked ciphertexts only, so that an evaluation has few cells."""
    if "full_profile" not in request.fixturenames:
        monkeypatch.setattr(catalog, "profile_attacks", lambda profile: {"none": catalog.make_attack("none", {})})


@dataclass
class LiveService:
    app: FastAPI
    url: str
    clients: list[httpx.Client] = field(default_factory=list)

    def replace_services(self, **replacements: Any) -> None:
        """Put others in the place of what the service uses."""
        self.app.state.app_state = replace(self.app.state.app_state, **replacements)


@pytest.fixture
def service(settings: Settings) -> Iterator[LiveService]:
    with application(settings) as app:
        server = uvicorn.Server(
            uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=2, timeout_keep_alive=KEEP_ALIVE_S)
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started and thread.is_alive():
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        served = LiveService(app, f"http://127.0.0.1:{port}")
        yield served
        for client in served.clients:
            client.close()
        server.should_exit = True
        thread.join()


@pytest.fixture
def sign_in(service: LiveService, runtime: Runtime) -> Callable[..., httpx.Client]:
    """A client of a fresh account."""

    def make(name: str, scopes: list[str] = ALL_SCOPES) -> httpx.Client:
        token = make_token(runtime.sessions, runtime.keyring, make_account(runtime.sessions, name), scopes)
        client = httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {token}"}, timeout=300)
        service.clients.append(client)
        return client

    return make


@pytest.fixture
def client(sign_in: Callable[..., httpx.Client]) -> httpx.Client:
    return sign_in("owner")


@pytest.fixture
def run_cells(runtime: Runtime) -> Callable[[dict[str, Any]], None]:
    """Run every cell of an evaluation, as workers would."""

    def run(evaluation: dict[str, Any]) -> None:
        for cell in evaluation["cells"]:
            run_cell(runtime, cell["id"])

    return run


def create_evaluation(client: httpx.Client, **overrides: Any) -> dict[str, Any]:
    answer = client.post("/evaluations", json={**ORDER, **overrides})
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body
