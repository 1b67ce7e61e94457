"""How a request is tried again, against a real server that misbehaves as told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.client.errors import Conflict, ServerProblem, Unreachable
from app.client.transport import Transport

OK: tuple[int, dict[str, str], bytes] = (200, {}, b"{}")


class Moody(ThreadingHTTPServer):
    """Answers each request with the next of `script`: (status, headers, body), or None to hang up."""

    daemon_threads = True

    def __init__(self, *script: tuple[int, dict[str, str], bytes] | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = list(script)
        self.seen: list[tuple[str, str | None, bytes]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Moody

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.headers.get("Idempotency-Key"), body))
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


@pytest.fixture
def moody(request: pytest.FixtureRequest) -> Iterator[Moody]:
    server = Moody(*request.param)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def transport(moody: Moody) -> Iterator[Transport]:
    made = Transport(f"http://127.0.0.1:{moody.server_port}", "token", timeout=5, retries=2)
    yield made
    made.close()


@pytest.mark.parametrize("moody", [[None, (503, {"Retry-After": "0"}, b"proxy"), OK]], indirect=True)
def test_a_lost_connection_and_a_503_are_tried_again_under_one_key_and_body(moody: Moody, transport: Transport) -> None:
    parts = [("images", ("a.png", b"pixels"))]
    assert transport.request("POST", "/encrypt", files=lambda: parts).json() == {}
    assert len(moody.seen) == 3
    assert len({key for _, key, _ in moody.seen}) == 1
    assert all(b"pixels" in body for *_, body in moody.seen)


@pytest.mark.parametrize("moody", [[(429, {"Retry-After": "1"}, b"{}"), OK]], indirect=True)
def test_retry_after_is_waited_for(moody: Moody, transport: Transport) -> None:
    started = time.monotonic()
    transport.request("GET", "/schemes")
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("moody", [[(409, {}, b'{"code":"idempotency_running"}'), OK]], indirect=True)
def test_the_answer_of_a_request_that_still_runs_is_awaited(moody: Moody, transport: Transport) -> None:
    transport.request("POST", "/keys", json={})
    assert len(moody.seen) == 2


@pytest.mark.parametrize("moody", [[(409, {}, b'{"code":"other","detail":"no"}')]], indirect=True)
def test_other_conflicts_are_final(moody: Moody, transport: Transport) -> None:
    with pytest.raises(Conflict, match="other: no"):
        transport.request("POST", "/evaluations/ev_1/cancel")
    assert len(moody.seen) == 1


@pytest.mark.parametrize("moody", [[None, (404, {}, b"{}")]], indirect=True)
def test_a_delete_whose_answer_was_lost_had_worked(moody: Moody, transport: Transport) -> None:
    assert transport.request("DELETE", "/keys/key_1").status_code == 404


@pytest.mark.parametrize("moody", [[(502, {}, b"<html>bad gateway</html>")] * 3], indirect=True)
def test_after_the_last_try_the_problem_is_raised_also_without_a_problem_body(
    moody: Moody, transport: Transport
) -> None:
    with pytest.raises(ServerProblem, match="502 unknown: Bad Gateway"):
        transport.request("GET", "/schemes")


@pytest.mark.parametrize("moody", [[None, None, None]], indirect=True)
def test_nobody_there_is_unreachable(moody: Moody, transport: Transport) -> None:
    with pytest.raises(Unreachable):
        transport.request("GET", "/schemes")
    assert len(moody.seen) == 3
