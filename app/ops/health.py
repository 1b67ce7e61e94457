"""GET /health/live and /health/ready: whether this process runs, and whether the whole service is ready."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable
from functools import cache
from typing import Literal

import redis.exceptions
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from unveil.app.broker import QUEUES
from unveil.app.db.heartbeats import API_QUEUE, ENCRYPT_QUEUE, HEARTBEAT_TTL_S, select_live_processes
from unveil.app.db.migrate import script_directory
from unveil.app.db.tables import ProcessHeartbeat
from unveil.app.dependencies import AppState, AppStateDep

router = APIRouter(prefix="/health", tags=["operation"])
_CHECK_TIMEOUT_S = 5.0
_CACHE_TTL_S = 1.0
MIN_FREE_BYTES = 256 * 2**20


class LivenessOut(BaseModel):
    status: Literal["ok"] = "ok"


class ComponentHealth(BaseModel):
    ok: bool
    detail: str = Field(examples=["1 on attack, 1 on encrypt, none on ops"])


class ReadinessOut(BaseModel):
    status: Literal["ok", "not ready"]
    parts: dict[str, ComponentHealth] = Field(
        examples=[{"database": {"ok": True, "detail": "answers"}, "broker": {"ok": True, "detail": "answers"}}]
    )


@router.get("/live")
async def get_liveness() -> LivenessOut:
    """The process is running."""
    return LivenessOut()


class Readiness:
    """Caches the result for a second, however many clients ask."""

    def __init__(self) -> None:
        self._cached: ReadinessOut | None = None
        self._cached_at = float("-inf")
        self._lock = asyncio.Lock()

    async def check(self, app_state: AppState) -> ReadinessOut:
        async with self._lock:
            if self._cached is None or time.monotonic() - self._cached_at > _CACHE_TTL_S:
                self._cached = await _check_components(app_state)
                self._cached_at = time.monotonic()
            return self._cached


@router.get("/ready", responses={503: {"model": ReadinessOut, "description": "A component is not ready"}})
async def get_readiness(request: Request, app_state: AppStateDep, response: Response) -> ReadinessOut:
    """Checks database, migrations, broker, blob store and workers; 503 if one of them is not ready.

    The service needs a worker of the queue encrypt, because requests wait for it. Without a worker of the queue attack
    jobs stay queued; the detail of `workers` reports that.
    """
    readiness: Readiness = request.app.state.readiness
    report = await readiness.check(app_state)
    response.headers["Cache-Control"] = "no-store"
    if report.status != "ok":
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    return report


async def _check_components(app_state: AppState) -> ReadinessOut:
    checks: dict[str, Awaitable[ComponentHealth]] = {
        "database": _check_database(app_state),
        "migrations": _check_migrations(app_state),
        "broker": _check_broker(app_state),
        "blobs": _check_blobs(app_state),
        "workers": _check_workers(app_state),
    }
    parts = dict(zip(checks, await asyncio.gather(*map(_check_with_timeout, checks.values())), strict=True))
    all_ok = all(part.ok for part in parts.values())
    return ReadinessOut(status="ok" if all_ok else "not ready", parts=parts)


async def _check_with_timeout(check: Awaitable[ComponentHealth]) -> ComponentHealth:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            return await check
    except (SQLAlchemyError, redis.exceptions.RedisError, OSError) as error:
        return ComponentHealth(ok=False, detail=f"does not answer ({type(error).__name__})")


async def _check_database(app_state: AppState) -> ComponentHealth:
    async with app_state.sessions() as session:
        await session.execute(text("SELECT 1"))
    return ComponentHealth(ok=True, detail="answers")


async def _check_migrations(app_state: AppState) -> ComponentHealth:
    async with app_state.sessions() as session:
        current = await session.scalar(text("SELECT version_num FROM alembic_version"))
    newest = _newest_revision()
    hint = "up to date" if current == newest else f"run `python -m unveil.app.db.migrate` to get to {newest}"
    return ComponentHealth(ok=current == newest, detail=f"at revision {current}, {hint}")


@cache
def _newest_revision() -> str | None:
    return script_directory().get_current_head()


async def _check_broker(app_state: AppState) -> ComponentHealth:
    await app_state.redis.ping()
    return ComponentHealth(ok=True, detail="answers")


async def _check_blobs(app_state: AppState) -> ComponentHealth:
    free = await asyncio.to_thread(app_state.blobs.free_bytes)
    if free is None:
        return ComponentHealth(ok=True, detail="not on a local disk")
    if free < MIN_FREE_BYTES:
        return ComponentHealth(ok=False, detail=f"only {free / 2**20:.0f} MiB are free")
    return ComponentHealth(ok=True, detail=f"{free / 2**30:.1f} GiB free")


async def _check_workers(app_state: AppState) -> ComponentHealth:
    async with app_state.sessions() as session:
        workers = (await session.scalars(select_live_processes().where(ProcessHeartbeat.queues != [API_QUEUE]))).all()
    if not workers:
        return ComponentHealth(
            ok=False, detail=f"no heartbeat for {HEARTBEAT_TTL_S:.0f} s; start a worker with `unveil worker`"
        )
    by_queue = Counter(",".join(worker.queues) for worker in workers)
    details = [f"{count} on {queue}" for queue, count in sorted(by_queue.items())]
    served_queues = {queue for worker in workers for queue in worker.queues}
    details += [f"none on {queue}" for queue in QUEUES if queue not in served_queues]
    return ComponentHealth(ok=ENCRYPT_QUEUE in served_queues, detail=", ".join(details))
