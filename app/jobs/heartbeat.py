"""Which processes are alive: each says so every few seconds in the table `workers`, and takes its leave at its end."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import Delete, Select, delete, func, select
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.exc import SQLAlchemyError

from unveil.app.db.tables import Worker
from unveil.app.security.envelope import KeyRing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from unveil.app.dependencies import Services

API = "api"  # what the service's processes write for a queue
FRESH_S = 30.0  # who has said nothing for longer is taken for dead
log = logging.getLogger(__name__)


def arrival(name: str, queue: str, ring: KeyRing, **told: Any) -> Insert:
    """`told`: further columns, such as slots."""
    said = {"queue": queue, "ring": ring.current, "seen_at": func.clock_timestamp(), **told}
    return insert(Worker).values(name=name, **said).on_conflict_do_update(index_elements=["name"], set_=said)


def leave(name: str) -> Delete:
    return delete(Worker).where(Worker.name == name)


def alive() -> Select[Worker]:
    age = func.make_interval(0, 0, 0, 0, 0, 0, FRESH_S)
    return select(Worker).where(Worker.seen_at > func.clock_timestamp() - age)


@asynccontextmanager
async def present(svc: Services) -> AsyncIterator[None]:
    """While it lasts, this process of the service says that it is there."""
    name = f"{API}@{socket.gethostname()}/{os.getpid()}"
    speaking = asyncio.create_task(_speak(svc, name))
    try:
        yield
    finally:
        speaking.cancel()
        with suppress(asyncio.CancelledError):
            await speaking
        await _say(svc, leave(name))


async def _speak(svc: Services, name: str) -> None:
    while True:
        await _say(svc, arrival(name, API, svc.ring))
        await asyncio.sleep(svc.settings.heartbeat_s)


async def _say(svc: Services, statement: Insert | Delete) -> None:
    try:
        async with svc.autocommit.connect() as database:
            await database.execute(statement)
    except (SQLAlchemyError, OSError) as away:  # the next one may reach it
        log.warning("cannot say whether this process is alive: %s", type(away).__name__)
