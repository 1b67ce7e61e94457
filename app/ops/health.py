"""GET /health/live and /health/ready: whether this process runs, and whether the whole service can do its work."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable
from functools import cache
from typing import Literal

import redis.exceptions
from alembic.script import ScriptDirectory
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from unveil.app.broker import QUEUES
from unveil.app.db.heartbeats import API, ENCRYPT, FRESH_S, alive
from unveil.app.db.migrate import alembic_config
from unveil.app.db.tables import Worker
from unveil.app.dependencies import Services, Svc

router = APIRouter(prefix="/health", tags=["operation"])
_PATIENCE_S = 5.0
_FOR_S = 1.0
LEAST_FREE = 256 * 2**20


class Live(BaseModel):
    status: Literal["ok"] = "ok"


class Part(BaseModel):
    ok: bool
    detail: str = Field(examples=["1 worker of the queue encrypt, 1 of attack"])


class Ready(BaseModel):
    status: Literal["ok", "not ready"]
    parts: dict[str, Part] = Field(
        examples=[{"database": {"ok": True, "detail": "answers"}, "broker": {"ok": True, "detail": "answers"}}]
    )


@router.get("/live")
async def live() -> Live:
    """This process answers."""
    return Live()


class Readiness:
    """However many ask, the parts are asked once a second."""

    def __init__(self) -> None:
        self._found: Ready | None = None
        self._at = float("-inf")
        self._looking = asyncio.Lock()

    async def look(self, svc: Services) -> Ready:
        async with self._looking:
            if self._found is None or time.monotonic() - self._at > _FOR_S:
                self._found = await _look(svc)
                self._at = time.monotonic()
            return self._found


@router.get("/ready", responses={503: {"model": Ready, "description": "A part is away"}})
async def ready(request: Request, svc: Svc, response: Response) -> Ready:
    """Database, migrations, broker, blob store and workers, each by name; 503 when one of them is not well.

    It is not ready without a worker that encrypts, for whom requests wait. Without one for attacks jobs wait, and the
    workers' detail says so.
    """
    readiness: Readiness = request.app.state.readiness
    found = await readiness.look(svc)
    response.headers["Cache-Control"] = "no-store"
    if found.status != "ok":
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    return found


async def _look(svc: Services) -> Ready:
    checks: dict[str, Awaitable[Part]] = {
        "database": _database(svc), "migrations": _migrations(svc), "broker": _broker(svc), "blobs": _blobs(svc),
        "workers": _workers(svc),
    }  # fmt: skip
    parts = dict(zip(checks, await asyncio.gather(*map(_safely, checks.values())), strict=True))
    well = all(part.ok for part in parts.values())
    return Ready(status="ok" if well else "not ready", parts=parts)


async def _safely(check: Awaitable[Part]) -> Part:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await check
    except (SQLAlchemyError, redis.exceptions.RedisError, OSError) as error:
        return Part(ok=False, detail=f"cannot be asked ({type(error).__name__})")


async def _database(svc: Services) -> Part:
    async with svc.sessions() as session:
        await session.execute(text("SELECT 1"))
    return Part(ok=True, detail="answers")


async def _migrations(svc: Services) -> Part:
    async with svc.sessions() as session:
        present = await session.scalar(text("SELECT version_num FROM alembic_version"))
    wanted = _head()
    advice = "up to date" if present == wanted else f"run `python -m unveil.app.db.migrate`: newest is {wanted}"
    return Part(ok=present == wanted, detail=f"at {present}, {advice}")


@cache
def _head() -> str | None:
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


async def _broker(svc: Services) -> Part:
    await svc.redis.ping()
    return Part(ok=True, detail="answers")


async def _blobs(svc: Services) -> Part:
    free = await asyncio.to_thread(svc.blobs.free)
    if free is None:
        return Part(ok=True, detail="not on this machine's disks")
    if free < LEAST_FREE:
        return Part(ok=False, detail=f"only {free / 2**20:.0f} MiB are free")
    return Part(ok=True, detail=f"{free / 2**30:.1f} GiB free")


async def _workers(svc: Services) -> Part:
    async with svc.sessions() as session:
        workers = (await session.scalars(alive().where(Worker.queue != API))).all()
    if not workers:
        return Part(ok=False, detail=f"none seen in {FRESH_S:.0f} s; start one with `unveil worker`")
    by_queue = Counter(worker.queue for worker in workers)
    told = [f"{count} on {queue}" for queue, count in sorted(by_queue.items())]
    served = {queue for worker in workers for queue in worker.queue.split(",")}
    told += [f"none on {queue}" for queue in QUEUES if queue not in served]
    return Part(ok=ENCRYPT in served, detail=", ".join(told))
