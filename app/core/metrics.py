"""GET /metrics: what this process counted of its requests, and what database and broker say of the work."""

from __future__ import annotations

import time

import redis.exceptions
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from app.core.services import Services, Svc
from app.core.states import Status
from app.db.tables import Cell, Worker
from app.queue import QUEUES

router = APIRouter(tags=["operation"])


class Metrics:
    """One registry an application, so that several may live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route")
        self._requests = Counter(
            "unveil_http_requests", "Requests answered", (*labels, "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "unveil_http_request_seconds",
            "Time to the end of the answer",
            labels,
            registry=self.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request, svc: Svc) -> Response:
    """Prometheus text. Holds counts only, nothing of any account; keep it inside your network all the same."""
    counted: Metrics = request.app.state.metrics
    now = CollectorRegistry()
    up = Gauge("unveil_up", "Whether a part could be asked", ("part",), registry=now)
    for part, read in (("database", _of_database), ("broker", _of_broker)):
        try:
            await read(svc, now)
            up.labels(part).set(1)
        except (SQLAlchemyError, redis.exceptions.RedisError, OSError):
            up.labels(part).set(0)
    return Response(generate_latest(counted.registry) + generate_latest(now), media_type=CONTENT_TYPE_LATEST)


async def _of_database(svc: Services, registry: CollectorRegistry) -> None:
    age = func.extract("epoch", func.clock_timestamp() - Worker.seen_at)
    async with svc.sessions() as session:
        by_status = dict((await session.execute(select(Cell.status, func.count()).group_by(Cell.status))).all())
        waited = await session.scalar(
            select(func.extract("epoch", func.clock_timestamp() - func.min(Cell.sent_at))).where(
                Cell.status == Status.QUEUED
            )
        )
        # A claim beyond a cell's first followed a lost lease or an orderly hand-back.
        reclaims = await session.scalar(select(func.sum(func.greatest(Cell.attempt - 1, 0))))
        workers = (await session.execute(select(Worker.name, Worker.queue, age))).all()
    cells = Gauge("unveil_cells", "Cells by status", ("status",), registry=registry)
    for status in Status:
        cells.labels(status.value).set(by_status.get(status.value, 0))
    Gauge("unveil_oldest_queued_cell_seconds", "Age of the oldest queued cell's message", registry=registry).set(
        waited or 0
    )
    Gauge("unveil_cell_reclaims", "Claims of cells after their first", registry=registry).set(reclaims or 0)
    seen = Gauge(
        "unveil_worker_seen_seconds", "Since a worker's last heartbeat", ("worker", "queue"), registry=registry
    )
    for name, queue, seconds in workers:
        seen.labels(name, queue).set(seconds)


async def _of_broker(svc: Services, registry: CollectorRegistry) -> None:
    depth = Gauge("unveil_queue_messages", "Messages that wait in a queue", ("queue",), registry=registry)
    started = time.perf_counter()
    async with svc.redis.pipeline(transaction=False) as pipe:
        for queue in QUEUES:
            pipe.llen(queue)
        lengths = await pipe.execute()
    for queue, length in zip(QUEUES, lengths, strict=True):
        depth.labels(queue).set(length)
    Gauge("unveil_broker_seconds", "Time the broker took to answer", registry=registry).set(
        time.perf_counter() - started
    )
