"""GET /metrics: what this process counted of its requests, and what database and broker say of the work."""

from __future__ import annotations

import asyncio
import hmac
import time
from typing import Any

import redis.exceptions
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from unveil.app.broker import QUEUES
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Evaluation, Key, Worker
from unveil.app.dependencies import Services, Svc
from unveil.app.errors.problem import TooMany, Unauthenticated
from unveil.app.http.authentication import count_stranger
from unveil.app.http.problems import problems

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


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **problems(Unauthenticated, TooMany)},
)
async def metrics(request: Request, svc: Svc) -> Response:
    """Prometheus text: figures of the service as a whole. With UNVEIL_METRICS_TOKEN set it asks for that token; without
    it, keep this address inside your network."""
    await _admit(request, svc)
    counted: Metrics = request.app.state.metrics
    now = CollectorRegistry()
    up = Gauge("unveil_up", "Whether a part could be asked", ("part",), registry=now)
    parts = {"database": _of_jobs, "processes": _of_processes, "broker": _of_broker, "blobs": _of_blobs}
    for part, read in parts.items():
        try:
            await read(svc, now)
            up.labels(part).set(1)
        except (SQLAlchemyError, redis.exceptions.RedisError, OSError):
            up.labels(part).set(0)
    return Response(generate_latest(counted.registry) + generate_latest(now), media_type=CONTENT_TYPE_LATEST)


async def _admit(request: Request, svc: Services) -> None:
    wanted = svc.settings.metrics_token
    shown = request.headers.get("authorization", "").partition(" ")[2].strip()
    if wanted is not None and hmac.compare_digest(shown.encode(), wanted.get_secret_value().encode()):
        return
    await count_stranger(request)
    if wanted is not None:
        headers = {"WWW-Authenticate": 'Bearer realm="metrics"'}
        raise Unauthenticated("send the token that the operator gave to the metrics", headers=headers)


async def _of_jobs(svc: Services, registry: CollectorRegistry) -> None:
    kinds: dict[str, tuple[type[Cell] | type[Key], Any]] = {
        "cell": (Cell, Evaluation.created_at), "key": (Key, Key.created_at)
    }  # fmt: skip
    jobs = Gauge("unveil_jobs", "Jobs by kind and status", ("kind", "status"), registry=registry)
    waits = Gauge("unveil_oldest_queued_seconds", "Age of the oldest job that waits", ("kind",), registry=registry)
    reclaims = Gauge("unveil_job_reclaims", "Claims of jobs after their first", ("kind",), registry=registry)
    failures = Gauge("unveil_job_failures", "Failed jobs by code", ("kind", "code"), registry=registry)
    async with svc.sessions() as session:
        for kind, (table, made) in kinds.items():
            ours = select(table).join(Evaluation) if table is Cell else select(table).where(Key.training.is_not(None))
            by_status = ours.with_only_columns(table.status, func.count()).group_by(table.status)
            found = dict((await session.execute(by_status)).all())
            for status in Status:
                jobs.labels(kind, status.value).set(found.get(status.value, 0))
            age = func.extract("epoch", func.clock_timestamp() - func.min(made))
            oldest = ours.with_only_columns(age).where(table.status == Status.QUEUED)
            waits.labels(kind).set(await session.scalar(oldest) or 0)
            again = ours.with_only_columns(func.sum(func.greatest(table.attempt - 1, 0)))
            reclaims.labels(kind).set(await session.scalar(again) or 0)
            code = table.error["code"].astext
            failed = ours.with_only_columns(code, func.count()).where(table.status == Status.FAILED).group_by(code)
            for name, count in await session.execute(failed):
                failures.labels(kind, name or "unknown").set(count)


async def _of_processes(svc: Services, registry: CollectorRegistry) -> None:
    age = func.extract("epoch", func.clock_timestamp() - Worker.seen_at)
    async with svc.sessions() as session:
        workers = (await session.execute(select(Worker, age).order_by(Worker.name))).all()
    names = ("worker", "queue")

    def gauge(name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"unveil_{name}", about, labels, registry=registry)

    seen = gauge("worker_seen_seconds", "Since a process's last heartbeat", *names)
    slots = gauge("worker_slots", "Jobs that a worker does at once", *names)
    taken = gauge("worker_lease_recoveries", "Jobs that it took from workers that were gone, since it began", *names)
    master = gauge("worker_master_key", "Number of the master key that a process seals with", *names)
    use = gauge("gpu_use_ratio", "How busy a GPU is", "worker", "gpu", "name")
    used = gauge("gpu_memory_used_bytes", "Memory of a GPU that is in use", "worker", "gpu", "name")
    memory = gauge("gpu_memory_bytes", "Memory of a GPU", "worker", "gpu", "name")
    for worker, seconds in workers:
        place = worker.name, worker.queue
        seen.labels(*place).set(seconds)
        for shown, value in ((slots, worker.slots), (taken, worker.recoveries), (master, worker.ring)):
            if value is not None:
                shown.labels(*place).set(value)
        for number, gpu in enumerate(worker.gpus or []):
            labels = worker.name, str(number), gpu["name"]
            for shown, field in ((use, "use"), (used, "memory_used"), (memory, "memory")):
                if gpu[field] is not None:
                    shown.labels(*labels).set(gpu[field])


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


async def _of_blobs(svc: Services, registry: CollectorRegistry) -> None:
    free = await asyncio.to_thread(svc.blobs.free)
    if free is not None:
        Gauge("unveil_blob_free_bytes", "What can still be written to the blob store", registry=registry).set(free)
