"""Many callers that poll one result with its ETag, each as often as Retry-After says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from benchmarks import database, fixtures, rows
from benchmarks.results import Curve, Goal, Row
from unveil.app.local.stack import LocalStack

_POLLERS = (125, 250, 500, 1000)
_SECONDS = 8.0
_POLL_INTERVAL_S = 2.0


def polling(stack: LocalStack) -> Iterator[Row | Curve]:
    address = f"/evaluations/{rows.evaluation_id(1)}"
    with fixtures.client(stack) as http:
        if http.get(address).status_code == 404:  # nothing has filled the database before
            database.fill_database(stack, 1)
        etag = http.get(address).raise_for_status().headers["etag"]
    port = int(stack.url.rpartition(":")[2])
    request = (
        f"GET {address} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {stack.token}\r\n"
        f"If-None-Match: {etag}\r\n\r\n"
    ).encode()
    points = []
    for pollers in _POLLERS:
        times = sorted(asyncio.run(_poll(port, request, pollers)))
        late = times[len(times) * 99 // 100] * 1e3
        points.append((float(pollers), late))
        if pollers == max(_POLLERS):
            yield Row(
                f"304 for {pollers:,} pollers, each every {_POLL_INTERVAL_S:g} s, p99",
                "ms",
                late,
                goal=Goal("at most", 250),
            )
    yield Curve("304 for pollers, p99", "pollers", "ms", points)


async def _poll(port: int, request: bytes, pollers: int) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + _POLL_INTERVAL_S + _SECONDS

    async def poller(number: int) -> None:
        due_at = time.perf_counter() + _POLL_INTERVAL_S * number / pollers  # they did not all begin at once
        await asyncio.sleep(due_at - time.perf_counter())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while due_at < end:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 304"):
                raise RuntimeError(f"not a 304: {head!r}")
            now = time.perf_counter()
            times.append(now - due_at)  # from when it was due: a service that lags behind is not let off
            due_at = max(due_at + _POLL_INTERVAL_S, now)
            await asyncio.sleep(due_at - now)
        writer.close()

    await asyncio.gather(*map(poller, range(pollers)))
    return times
