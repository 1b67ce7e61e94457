"""Connections: a head or body that arrives too slowly, and too many connections at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from unveil.app.http import connections
from unveil.app.settings import Settings

pytestmark = pytest.mark.anyio
HEAD = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n"


async def slow_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body, then takes longer than any time-out of the test."""
    body = await Request(scope, receive).body()
    await asyncio.sleep(0.6)
    await PlainTextResponse(body)(scope, receive, send)


@asynccontextmanager
async def serve(limit_concurrency: int | None = None) -> AsyncIterator[int]:
    config = uvicorn.Config(
        slow_app,
        http=connections.DeadlineProtocol,
        lifespan="off",
        log_level="error",
        limit_concurrency=limit_concurrency,
        timeout_keep_alive=connections.KEEP_ALIVE_S,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(request_head_timeout_s=0.3, request_body_timeout_s=0.4)
    monkeypatch.setattr(connections, "get_settings", lambda: settings)


async def read_until_closed(port: int, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """What the server responds to these parts before it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(pause_s)
    response = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return response


@pytest.mark.parametrize("parts", [(), (b"GET / HTTP/1.1\r\nHost: te",), (HEAD,), (HEAD, b"ab")])
async def test_a_half_sent_request_loses_its_connection(parts: tuple[bytes, ...]) -> None:
    async with serve() as port:
        responses = await asyncio.gather(*(read_until_closed(port, *parts) for _ in range(80)))
    assert set(responses) == {b""}


def test_the_server_keeps_an_idle_connection_longer_than_the_client() -> None:
    assert 2 * (httpx.Limits().keepalive_expiry or 0) < connections.KEEP_ALIVE_S


async def test_bytes_that_keep_trickling_do_not_extend_the_time() -> None:
    async with serve() as port:
        with pytest.raises(ConnectionError):
            await read_until_closed(port, *(bytes([byte]) for byte in HEAD + b"abc"), pause_s=0.05)


async def test_a_slow_response_and_a_second_request_are_no_fault_of_the_caller() -> None:
    async with serve() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(HEAD + b"abcd")
            assert (await asyncio.wait_for(reader.readuntil(b"abcd"), 60)).startswith(b"HTTP/1.1 200 OK")
        writer.write(b"GET / HTT")
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()


async def test_beyond_the_limit_of_connections_requests_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "get_settings", Settings)  # no idle connection ends before the test closes it
    request = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    async with serve(limit_concurrency=3) as port, asyncio.timeout(60):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert (await read_until_closed(port, request)).startswith(b"HTTP/1.1 503")
        for _, writer in idle:
            writer.close()
        while not (response := await read_until_closed(port, request)).startswith(b"HTTP/1.1 200"):
            assert response.startswith(b"HTTP/1.1 503")
