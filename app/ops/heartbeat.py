"""Which processes are alive: each says so every few seconds in the table `workers`, and takes its leave at its end."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from sqlalchemy import Delete
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.exc import SQLAlchemyError

from unveil.app.db.heartbeats import API, arrival, leave

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from unveil.app.dependencies import Services

log = logging.getLogger(__name__)


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
        await _say(svc, arrival(name, API, svc.ring.current))
        await asyncio.sleep(svc.settings.heartbeat_s)


async def _say(svc: Services, statement: Insert | Delete) -> None:
    try:
        async with svc.autocommit.connect() as database:
            await database.execute(statement)
    except (SQLAlchemyError, OSError) as away:  # the next one may reach it
        log.warning("cannot say whether this process is alive: %s", type(away).__name__)
