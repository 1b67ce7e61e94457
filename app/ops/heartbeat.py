"""Heartbeats of this API process into the table of process heartbeats, which health checks and limiters read."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy import Delete
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from unveil.app.db.heartbeats import API_QUEUE, delete_heartbeat, upsert_heartbeat
from unveil.app.security.envelope import Keyring

log = logging.getLogger(__name__)


@asynccontextmanager
async def send_heartbeats(autocommit_engine: AsyncEngine, keyring: Keyring, interval_s: float) -> AsyncIterator[None]:
    """Sends heartbeats in the background; deletes the row of this process at the end."""
    name = f"{API_QUEUE}@{socket.gethostname()}/{os.getpid()}"

    async def heartbeat_loop() -> None:
        while True:
            await _execute(autocommit_engine, upsert_heartbeat(name, [API_QUEUE], keyring.primary_version))
            await asyncio.sleep(interval_s)

    task = asyncio.create_task(heartbeat_loop())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await _execute(autocommit_engine, delete_heartbeat(name))


async def _execute(autocommit_engine: AsyncEngine, statement: Insert | Delete) -> None:
    try:
        async with autocommit_engine.connect() as connection:
            await connection.execute(statement)
    except (SQLAlchemyError, OSError) as error:
        log.warning("heartbeat not stored: %s; the next one is a new attempt", type(error).__name__)
