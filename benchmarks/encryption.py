"""POST /encrypt on a running stack: latency, rate beside the bare work, memory over many requests."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from multiprocessing import get_context

import numpy as np

from benchmarks import fixtures
from benchmarks.minimal_service import serving
from benchmarks.results import Curve, Goal, Row
from unveil.app.local.stack import LocalStack
from unveil.models.catalog import make_scheme, new_secret
from unveil.models.core.images import to_png
from unveil.worker.encryption import codec

SCHEME = "tanaka"
IMAGES, CLIENTS = 64, 4
_ROUND_S, _ROUNDS = 5.0, 3


def latency(stack: LocalStack) -> Iterator[Row | Curve]:
    pictures = fixtures.photographs(IMAGES)
    points = []
    with fixtures.client(stack) as http:
        for images, requests in ((1, 500), (4, 50), (16, 30), (64, 20)):
            body, headers = fixtures.form(pictures[:images], SCHEME)

            def once(body: bytes = body, headers: dict[str, str] = headers) -> float:
                start = time.perf_counter()
                http.post("/encrypt", content=body, headers=headers).raise_for_status()
                return (time.perf_counter() - start) * 1e3

            for _ in range(20):
                once()
            times = sorted(once() for _ in range(requests))
            points.append((float(images), statistics.median(times)))
            if images == 1:
                yield Row("POST /encrypt, one image, p50", "ms", times[len(times) // 2], goal=Goal("at most", 15))
                yield Row(
                    "POST /encrypt, one image, p99", "ms", times[len(times) * 99 // 100], goal=Goal("at most", 60)
                )
    yield Curve("POST /encrypt", "images", "ms", points)


def rate(stack: LocalStack) -> Iterator[Row]:
    """Images a second through the service, in turn with decode, encrypt and encode alone, and with the least around
    these that is still a service: on the same cores."""
    pictures = fixtures.photographs(IMAGES)
    body, headers = fixtures.form(pictures, SCHEME)
    cores = len(os.sched_getaffinity(0))
    served, least, bare = [], [], []
    headers["Authorization"] = f"Bearer {stack.token}"
    port = int(stack.url.rpartition(":")[2])

    def client(port: int) -> float:
        """A client that costs next to nothing itself: it shares the cores with what is measured."""
        with closing(HTTPConnection("127.0.0.1", port)) as connection:
            return _for_a_while(lambda: _post(connection, body, headers), IMAGES)

    with (
        get_context("spawn").Pool(cores, _warm, (pictures,)) as pool,
        serving(stack.environment["UNVEIL_REDIS_URL"], cores) as another,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        for _ in range(_ROUNDS + 1):
            served.append(sum(clients.map(client, [port] * CLIENTS)))
            least.append(sum(clients.map(client, [another] * CLIENTS)))
            bare.append(sum(pool.map(_alone, [_ROUND_S] * cores, chunksize=1)))
    del served[0], least[0], bare[0]  # warming up
    ratios = [ours / alone for ours, alone in zip(served, bare, strict=True)]
    yield Row(
        f"POST /encrypt, {IMAGES} images a request, {CLIENTS} clients", "images/s", statistics.median(served),
        (f"decode, encrypt, encode alone, {cores} processes", statistics.median(bare)), statistics.median(ratios),
        ("HTTP, Redis and AES-GCM around it, nothing else", statistics.median(least)),
        goal=Goal("at least", 0.7, of="ratio"),
    )  # fmt: skip


def _post(connection: HTTPConnection, body: bytes, headers: dict[str, str]) -> None:
    connection.request("POST", "/encrypt", body, headers)
    with connection.getresponse() as answer:
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} {answer.reason}")


def _for_a_while(work: Callable[[], object], images: int) -> float:
    start, done = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < _ROUND_S:
        work()
        done += images
    return done / passed


_pictures: Sequence[bytes] = ()


def _warm(pictures: Sequence[bytes]) -> None:
    global _pictures  # noqa: PLW0603 - of a process that does nothing else
    _pictures = pictures
    _transform()


def _transform() -> None:
    images = [codec.decode(codec.inspect(data, "image/png", max_pixels=16_000_000)).pixels for data in _pictures]
    scheme = make_scheme(SCHEME, {})
    for image in scheme.encrypt(np.stack(images), scheme.key(new_secret(), *images[0].shape[:2])):
        to_png(image)


def _alone(seconds: float) -> float:  # noqa: ARG001 - the same for all
    return _for_a_while(_transform, len(_pictures))


def memory(stack: LocalStack, requests: int = 10_000, warm: int = 1_000, patience_s: float = 240) -> Iterator[Row]:
    """Growth from the first `warm` requests to the last; stops early on a machine that is too busy, and says so."""
    body, headers = fixtures.form(fixtures.photographs(1), SCHEME)
    with fixtures.client(stack) as http, ThreadPoolExecutor(CLIENTS) as clients:

        def post(_: int) -> None:
            http.post("/encrypt", content=body, headers=headers).raise_for_status()

        list(clients.map(post, range(warm)))
        before, done, until = fixtures.memory(stack), warm, time.perf_counter() + patience_s
        while done < requests and time.perf_counter() < until:
            list(clients.map(post, range(250)))
            done += 250
        after = fixtures.memory(stack)
    for part, name in (("api", "service"), ("worker-encrypt", "encryption worker and its pool")):
        yield Row(
            f"memory of the {name}, growth from request {warm:,} to {done:,}", "MiB", after[part] - before[part],
            limit=("held at the end", after[part]), goal=Goal("at most", 8),
        )  # fmt: skip
