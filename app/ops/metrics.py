"""GET /metrics: the HTTP requests of this process, and the state of jobs, processes, broker and storage."""

from __future__ import annotations

import asyncio
import hmac
import time
from typing import Any

import redis.exceptions
from fastapi import APIRouter, FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from prometheus_fastapi_instrumentator import Instrumentator
from prometheus_fastapi_instrumentator import metrics as http_metrics
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from unveil.app.broker import QUEUES
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Evaluation, Key, ProcessHeartbeat
from unveil.app.dependencies import AppState, AppStateDep
from unveil.app.errors.problem import TooMany, Unauthenticated
from unveil.app.http.authentication import rate_limit_anonymous
from unveil.app.http.problems import problems

router = APIRouter(tags=["operation"])


def instrument(app: FastAPI) -> None:
    """Counts and times the requests of `app`, in a registry of its own, so that one process may hold several apps."""
    registry = app.state.http_metrics = CollectorRegistry()
    instrumentator = Instrumentator(should_group_status_codes=False, registry=registry)
    instrumentator.add(http_metrics.requests("unveil_http_requests", registry=registry))
    instrumentator.add(http_metrics.latency("unveil_http_request_duration_seconds", registry=registry))
    instrumentator.instrument(app)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **problems(Unauthenticated, TooMany)},
)
async def get_metrics(request: Request, app_state: AppStateDep) -> Response:
    """Metrics in the Prometheus text format.

    With UNVEIL_METRICS_TOKEN set, the request needs that token. Without it, keep this path inside your network.
    """
    await _require_metrics_token(request, app_state)
    registry = CollectorRegistry()
    component_up = Gauge("unveil_component_up", "Whether a component answered", ("component",), registry=registry)
    collectors = {
        "database": _collect_jobs,
        "processes": _collect_processes,
        "broker": _collect_broker,
        "blobs": _collect_blobs,
    }
    for component, collect in collectors.items():
        try:
            await collect(app_state, registry)
            component_up.labels(component).set(1)
        except (SQLAlchemyError, redis.exceptions.RedisError, OSError):
            component_up.labels(component).set(0)
    text = generate_latest(request.app.state.http_metrics) + generate_latest(registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


async def _require_metrics_token(request: Request, app_state: AppState) -> None:
    expected_token = app_state.settings.metrics_token
    given_token = request.headers.get("authorization", "").partition(" ")[2].strip()
    if expected_token is not None and hmac.compare_digest(
        given_token.encode(), expected_token.get_secret_value().encode()
    ):
        return
    await rate_limit_anonymous(request)
    if expected_token is not None:
        headers = {"WWW-Authenticate": 'Bearer realm="metrics"'}
        raise Unauthenticated("send the value of UNVEIL_METRICS_TOKEN as a bearer token", headers=headers)


async def _collect_jobs(app_state: AppState, registry: CollectorRegistry) -> None:
    kinds: dict[str, tuple[type[Cell] | type[Key], Any]] = {
        "cell": (Cell, Evaluation.created_at), "key": (Key, Key.created_at)
    }  # fmt: skip
    jobs = Gauge("unveil_jobs", "Jobs by kind and status", ("kind", "status"), registry=registry)
    oldest_queued = Gauge(
        "unveil_oldest_queued_job_age_seconds", "Age of the oldest queued job", ("kind",), registry=registry
    )
    retries = Gauge("unveil_job_retries", "Attempts of jobs after their first", ("kind",), registry=registry)
    failures = Gauge("unveil_job_failures", "Failed jobs by code", ("kind", "code"), registry=registry)
    async with app_state.sessions() as session:
        for kind, (table, created_column) in kinds.items():
            jobs_query = (
                select(table).join(Evaluation)
                if table is Cell
                else select(table).where(Key.training_request.is_not(None))
            )
            by_status = jobs_query.with_only_columns(table.status, func.count()).group_by(table.status)
            count_by_status = dict((await session.execute(by_status)).all())
            for status in Status:
                jobs.labels(kind, status.value).set(count_by_status.get(status.value, 0))
            age = func.extract("epoch", func.clock_timestamp() - func.min(created_column))
            oldest_age_query = jobs_query.with_only_columns(age).where(table.status == Status.QUEUED)
            oldest_queued.labels(kind).set(await session.scalar(oldest_age_query) or 0)
            retry_sum = jobs_query.with_only_columns(func.sum(func.greatest(table.attempt - 1, 0)))
            retries.labels(kind).set(await session.scalar(retry_sum) or 0)
            code = table.error["code"].astext
            failures_query = (
                jobs_query.with_only_columns(code, func.count()).where(table.status == Status.FAILED).group_by(code)
            )
            for name, count in await session.execute(failures_query):
                failures.labels(kind, name or "unknown").set(count)


async def _collect_processes(app_state: AppState, registry: CollectorRegistry) -> None:
    age = func.extract("epoch", func.clock_timestamp() - ProcessHeartbeat.seen_at)
    async with app_state.sessions() as session:
        workers = (await session.execute(select(ProcessHeartbeat, age).order_by(ProcessHeartbeat.name))).all()
    names = ("worker", "queue")

    def gauge(name: str, documentation: str, *labels: str) -> Gauge:
        return Gauge(f"unveil_{name}", documentation, labels, registry=registry)

    heartbeat_age = gauge("worker_heartbeat_age_seconds", "Time since the last heartbeat of a process", *names)
    concurrency = gauge("worker_concurrency", "Jobs that a worker runs at once", *names)
    lease_recoveries = gauge("lease_recoveries", "Expired leases that a worker has requeued since it started", *names)
    master_key_version = gauge(
        "worker_master_key_version", "Version of the master key that a process encrypts with", *names
    )
    gpu_utilization = gauge("gpu_utilization_ratio", "Utilization of a GPU", "worker", "gpu", "name")
    gpu_memory_used = gauge("gpu_memory_used_bytes", "Used memory of a GPU", "worker", "gpu", "name")
    gpu_memory = gauge("gpu_memory_bytes", "Total memory of a GPU", "worker", "gpu", "name")
    for worker, seconds in workers:
        worker_labels = worker.name, ",".join(worker.queues)
        heartbeat_age.labels(*worker_labels).set(seconds)
        for metric, value in (
            (concurrency, worker.concurrency),
            (lease_recoveries, worker.lease_recoveries),
            (master_key_version, worker.master_key_version),
        ):
            if value is not None:
                metric.labels(*worker_labels).set(value)
        for number, gpu in enumerate(worker.gpus or []):
            labels = worker.name, str(number), gpu["name"]
            for metric, field in ((gpu_utilization, "use"), (gpu_memory_used, "memory_used"), (gpu_memory, "memory")):
                if gpu[field] is not None:
                    metric.labels(*labels).set(gpu[field])


async def _collect_broker(app_state: AppState, registry: CollectorRegistry) -> None:
    depth = Gauge("unveil_queue_messages", "Messages waiting in a queue", ("queue",), registry=registry)
    started = time.perf_counter()
    async with app_state.redis.pipeline(transaction=False) as pipe:
        for queue in QUEUES:
            pipe.llen(queue)
        lengths = await pipe.execute()
    for queue, length in zip(QUEUES, lengths, strict=True):
        depth.labels(queue).set(length)
    Gauge("unveil_broker_ping_seconds", "Response time of the broker", registry=registry).set(
        time.perf_counter() - started
    )


async def _collect_blobs(app_state: AppState, registry: CollectorRegistry) -> None:
    free = await asyncio.to_thread(app_state.blobs.free_bytes)
    if free is not None:
        Gauge("unveil_blob_free_bytes", "Free bytes of the blob store", registry=registry).set(free)
