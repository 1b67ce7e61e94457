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
from benchmarks.results import Curve, Goal, Row
from unveil.app.local.stack import LocalStack
from unveil.models.catalog import make_scheme, new_secret
from unveil.models.core.images import to_png
from unveil.models.data.decoding import decode, inspect

SCHEME = "tanaka"
IMAGES, CLIENTS = 64, 4
_ROUND_S, _ROUNDS = 5.0, 3


def latency(stack: LocalStack) -> Iterator[Row | Curve]:
    pngs = fixtures.photographs(IMAGES)
    points = []
    with fixtures.client(stack) as http:
        for images, requests in ((1, 500), (4, 50), (16, 30), (64, 20)):
            body, headers = fixtures.encode_form(pngs[:images], SCHEME)

            def post_once(body: bytes = body, headers: dict[str, str] = headers) -> float:
                start = time.perf_counter()
                http.post("/encrypt", content=body, headers=headers).raise_for_status()
                return (time.perf_counter() - start) * 1e3

            for _ in range(20):
                post_once()
            times = sorted(post_once() for _ in range(requests))
            points.append((float(images), statistics.median(times)))
            if images == 1:
                yield Row("POST /encrypt, one image, p50", "ms", times[len(times) // 2], goal=Goal("at most", 15))
                yield Row(
                    "POST /encrypt, one image, p99", "ms", times[len(times) * 99 // 100], goal=Goal("at most", 60)
                )
    yield Curve("POST /encrypt", "images", "ms", points)


def rate(stack: LocalStack) -> Iterator[Row]:
    """Images a second through the service, in turn with decode, encrypt and encode alone on the same cores."""
    pngs = fixtures.photographs(IMAGES)
    body, headers = fixtures.encode_form(pngs, SCHEME)
    cores = len(os.sched_getaffinity(0))
    through_service, without_service = [], []
    headers["Authorization"] = f"Bearer {stack.token}"
    port = int(stack.url.rpartition(":")[2])

    def client(_: int) -> float:
        """The cheapest client there is, because it shares the cores with the service."""
        with closing(HTTPConnection("127.0.0.1", port)) as connection:
            return _rate_over_round(lambda: _post(connection, body, headers), IMAGES)

    with (
        get_context("spawn").Pool(cores, _init_pool_process, (pngs,)) as pool,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        for _ in range(_ROUNDS + 1):
            through_service.append(sum(clients.map(client, range(CLIENTS))))
            without_service.append(sum(pool.map(_rate_without_service, [_ROUND_S] * cores, chunksize=1)))
    del through_service[0], without_service[0]  # the first round warms up
    ratios = [
        service_rate / bare_rate for service_rate, bare_rate in zip(through_service, without_service, strict=True)
    ]
    yield Row(
        f"POST /encrypt, {IMAGES} images a request, {CLIENTS} clients",
        "images/s",
        statistics.median(through_service),
        (f"decode, encrypt, encode alone, {cores} processes", statistics.median(without_service)),
        statistics.median(ratios),
        goal=Goal("at least", 1500),
    )


def _post(connection: HTTPConnection, body: bytes, headers: dict[str, str]) -> None:
    connection.request("POST", "/encrypt", body, headers)
    with connection.getresponse() as answer:
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} {answer.reason}")


def _rate_over_round(work: Callable[[], object], images: int) -> float:
    start, image_count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < _ROUND_S:
        work()
        image_count += images
    return image_count / elapsed


_pool_pngs: Sequence[bytes] = ()


def _init_pool_process(pngs: Sequence[bytes]) -> None:
    global _pool_pngs  # noqa: PLW0603 - of a process that does nothing else
    _pool_pngs = pngs
    _transform_once()


def _transform_once() -> None:
    images = [decode(inspect(data)).pixels for data in _pool_pngs]
    scheme = make_scheme(SCHEME, {})
    for image in scheme.encrypt(np.stack(images), scheme.key(new_secret(), *images[0].shape[:2])):
        to_png(image)


def _rate_without_service(seconds: float) -> float:  # noqa: ARG001 - the same for all
    return _rate_over_round(_transform_once, len(_pool_pngs))


def memory(stack: LocalStack, requests: int = 10_000, warmup: int = 1_000, timeout_s: float = 240) -> Iterator[Row]:
    """Growth from the first `warm` requests to the last; stops early on a machine that is too busy, and says so."""
    body, headers = fixtures.encode_form(fixtures.photographs(1), SCHEME)
    with fixtures.client(stack) as http, ThreadPoolExecutor(CLIENTS) as clients:

        def post(_: int) -> None:
            http.post("/encrypt", content=body, headers=headers).raise_for_status()

        list(clients.map(post, range(warmup)))
        memory_before, request_count, deadline = fixtures.memory_mib(stack), warmup, time.perf_counter() + timeout_s
        while request_count < requests and time.perf_counter() < deadline:
            list(clients.map(post, range(250)))
            request_count += 250
        memory_after = fixtures.memory_mib(stack)
    for process_name, name in (("api", "service"), ("worker-encrypt", "encryption worker and its pool")):
        yield Row(
            f"memory of the {name}, growth from request {warmup:,} to {request_count:,}",
            "MiB",
            memory_after[process_name] - memory_before[process_name],
            limit=("held at the end", memory_after[process_name]),
            goal=Goal("at most", 8),
        )
