"""GET /health/live and /health/ready: whether this process runs, and whether the whole service can do its work."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from functools import cache
from typing import Literal

import redis.exceptions
from alembic.script import ScriptDirectory
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.core.services import Services, Svc
from app.db.migrate import alembic_config
from app.db.tables import Worker
from app.presence import API, FRESH_S, alive

router = APIRouter(prefix="/health", tags=["operation"])
_PATIENCE_S = 5.0


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


@router.get("/ready", responses={503: {"model": Ready, "description": "A part is away"}})
async def ready(svc: Svc, response: Response) -> Ready:
    """Database, migrations, broker and workers, each by name; 503 when one of them is not well."""
    checks: dict[str, Awaitable[Part]] = {
        "database": _database(svc), "migrations": _migrations(svc), "broker": _broker(svc), "workers": _workers(svc)
    }  # fmt: skip
    parts = dict(zip(checks, await asyncio.gather(*map(_safely, checks.values())), strict=True))
    well = all(part.ok for part in parts.values())
    response.headers["Cache-Control"] = "no-store"
    if not well:
        response.status_code = 503
        response.headers["Retry-After"] = "5"
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
    advice = "up to date" if present == wanted else f"run `python -m app.db.migrate`: newest is {wanted}"
    return Part(ok=present == wanted, detail=f"at {present}, {advice}")


@cache
def _head() -> str | None:
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


async def _broker(svc: Services) -> Part:
    await svc.redis.ping()
    return Part(ok=True, detail="answers")


async def _workers(svc: Services) -> Part:
    async with svc.sessions() as session:
        workers = (await session.scalars(alive().where(Worker.queue != API))).all()
    if not workers:
        return Part(ok=False, detail=f"none seen in {FRESH_S:.0f} s; start one with `unveil worker`")
    by_queue = Counter(worker.queue for worker in workers)
    return Part(ok=True, detail=", ".join(f"{count} on {queue}" for queue, count in sorted(by_queue.items())))
