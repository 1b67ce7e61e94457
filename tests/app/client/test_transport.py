"""How a request is tried again and a stream read, blocking and on asyncio, against a real server that misbehaves."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from unveil.app.client.client import AsyncClient, Client
from unveil.app.client.config import ClientConfig
from unveil.app.client.errors import Conflict, KeyDestroyed, QueueFull, ServerProblem, Unreachable, error_from_response
from unveil.app.client.evaluation import AsyncEvaluation, Evaluation
from unveil.app.client.transport import AsyncTransport, SyncTransport, run_blocking

OK: tuple[int, dict[str, str], bytes] = (200, {}, b"{}")


class ScriptedServer(ThreadingHTTPServer):
    """Answers each request with the next of `script`: (status, headers, body), or None to hang up."""

    daemon_threads = True

    def __init__(self, *script: tuple[int, dict[str, str], bytes] | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = list(script)
        self.seen: list[tuple[str, str | None, bytes]] = []
        self.headers: list[dict[str, str]] = []


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.headers.get("Idempotency-Key"), body))
        self.server.headers.append(dict(self.headers))
        step = self.server.script.pop(0)
        if step is None:
            self.connection.close()
            return
        status, headers, content = step
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the service asks for is waited for in full; what the client waits of its own is shortened."""
    monkeypatch.setattr("unveil.app.client.transport._FIRST_BACKOFF_S", 0.01)


@pytest.fixture
def scripted_server(request: pytest.FixtureRequest) -> Iterator[ScriptedServer]:
    server = ScriptedServer(*request.param)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["blocking", "asyncio"])
def send(request: pytest.FixtureRequest, scripted_server: ScriptedServer) -> Callable[..., httpx.Response]:
    """Send a request through one of the two transports."""
    config = ClientConfig(f"http://127.0.0.1:{scripted_server.server_port}", "token", timeout=5, retries=2)
    run = asyncio.run if request.param == "asyncio" else run_blocking

    async def send_and_close(*arguments: Any, **options: Any) -> httpx.Response:
        transport = AsyncTransport(config) if request.param == "asyncio" else SyncTransport(config)
        try:
            return await transport.request(*arguments, **options)
        finally:
            await transport.close()

    return lambda *arguments, **options: run(send_and_close(*arguments, **options))


@pytest.mark.parametrize("scripted_server", [[None, (503, {"Retry-After": "0"}, b"proxy"), OK]], indirect=True)
def test_a_lost_connection_and_a_503_are_tried_again_under_one_key_and_body(
    scripted_server: ScriptedServer, send
) -> None:
    parts = [("images", ("a.png", b"pixels"))]
    assert send("POST", "/encrypt", files=lambda: parts).json() == {}
    assert len(scripted_server.seen) == 3
    assert len({key for _, key, _ in scripted_server.seen}) == 1
    assert all(b"pixels" in body for *_, body in scripted_server.seen)


@pytest.mark.parametrize("scripted_server", [[(429, {"Retry-After": "1"}, b"{}"), OK]], indirect=True)
def test_retry_after_is_waited_for(scripted_server: ScriptedServer, send) -> None:
    started = time.monotonic()
    send("GET", "/schemes")
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("scripted_server", [[(429, {"Retry-After": "3600"}, b'{"code":"queue_full"}')]], indirect=True)
def test_a_retry_after_of_an_hour_fails_at_once(scripted_server: ScriptedServer, send) -> None:
    with pytest.raises(QueueFull) as caught:
        send("GET", "/schemes")
    assert caught.value.retry_after_s == 3600


def test_retry_after_may_be_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    response = httpx.Response(503, headers={"Retry-After": later})
    assert 80 < error_from_response(response).retry_after_s < 91


@pytest.mark.parametrize("scripted_server", [[(409, {}, b'{"code":"idempotency_running"}'), OK]], indirect=True)
def test_the_answer_of_a_request_that_still_runs_is_awaited(scripted_server: ScriptedServer, send) -> None:
    send("POST", "/keys", json={}, headers={"Idempotency-Key": "mine"})
    assert [key for _, key, _ in scripted_server.seen] == ["mine", "mine"]


@pytest.mark.parametrize("scripted_server", [[(409, {}, b'{"code":"other","detail":"no"}')]], indirect=True)
def test_other_conflicts_are_final(scripted_server: ScriptedServer, send) -> None:
    with pytest.raises(Conflict, match="other: no"):
        send("POST", "/evaluations/ev_1/cancel")
    assert len(scripted_server.seen) == 1


@pytest.mark.parametrize("scripted_server", [[(410, {}, b'{"code":"key_destroyed","detail":"gone"}')]], indirect=True)
def test_a_problem_is_raised_as_the_class_of_its_code(scripted_server: ScriptedServer, send) -> None:
    with pytest.raises(KeyDestroyed):
        send("GET", "/keys/key_1")


@pytest.mark.parametrize("scripted_server", [[None, (404, {}, b"{}")]], indirect=True)
def test_a_delete_whose_answer_was_lost_had_worked(scripted_server: ScriptedServer, send) -> None:
    assert send("DELETE", "/keys/key_1").status_code == 404


@pytest.mark.parametrize("scripted_server", [[(502, {}, b"<html>bad gateway</html>")] * 3], indirect=True)
def test_after_the_last_try_the_problem_is_raised_also_without_a_problem_body(
    scripted_server: ScriptedServer, send
) -> None:
    with pytest.raises(ServerProblem, match="502 unknown: Bad Gateway"):
        send("GET", "/schemes")


@pytest.mark.parametrize("scripted_server", [[None, None, None]], indirect=True)
def test_nobody_there_is_unreachable(scripted_server: ScriptedServer, send) -> None:
    with pytest.raises(Unreachable):
        send("GET", "/schemes")
    assert len(scripted_server.seen) == 3


RUNNING: dict[str, Any] = {"id": "ev_1", "status": "running"}
ENDED: dict[str, Any] = {"id": "ev_1", "status": "succeeded"}
FIRST = b': hello\n\nid: 1\nevent: cell\ndata: {"a":\ndata: 1}\n\nid: 2\nevent: cell\nda'  # cut off in the middle
SECOND = b'id: 2\nevent: status\ndata: {"status":"succeeded"}\n\n'
STREAM: list[tuple[int, dict[str, str], bytes] | None] = [
    (200, {}, FIRST), (200, {}, json.dumps(RUNNING).encode()), None, (503, {}, b"{}"),
    (200, {}, SECOND), (200, {}, json.dumps(ENDED).encode()),
]  # fmt: skip


@pytest.mark.parametrize("scripted_server", [STREAM], indirect=True)
@pytest.mark.parametrize("how", ["blocking", "asyncio"])
def test_a_stream_that_breaks_goes_on_where_it_was(scripted_server: ScriptedServer, how: str) -> None:
    url = f"http://127.0.0.1:{scripted_server.server_port}"

    async def follow() -> list[int]:
        async with AsyncClient(url, "token") as client:
            evaluation = AsyncEvaluation(RUNNING, client._transport)
            return [event.id async for event in evaluation.events()]

    if how == "asyncio":
        ids = asyncio.run(follow())
    else:
        with Client(url, "token") as client:
            ids = [event.id for event in Evaluation(RUNNING, client._transport).events()]
    assert ids == [1, 2]
    asked = [headers.get("Last-Event-ID") for headers in scripted_server.headers]
    assert asked == ["0", None, "1", "1", "1", None]


def test_an_address_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="localhost:8000"):
        Client("localhost:8000")
