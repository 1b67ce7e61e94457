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

from unveil.app.db.heartbeats import API_QUEUE, delete_heartbeat, upsert_heartbeat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from unveil.app.dependencies import AppState

log = logging.getLogger(__name__)


@asynccontextmanager
async def send_heartbeats(app_state: AppState) -> AsyncIterator[None]:
    """While it lasts, this process of the service says that it is there."""
    name = f"{API_QUEUE}@{socket.gethostname()}/{os.getpid()}"
    task = asyncio.create_task(_heartbeat_loop(app_state, name))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await _execute(app_state, delete_heartbeat(name))


async def _heartbeat_loop(app_state: AppState, name: str) -> None:
    while True:
        await _execute(app_state, upsert_heartbeat(name, [API_QUEUE], app_state.keyring.primary_version))
        await asyncio.sleep(app_state.settings.heartbeat_interval_s)


async def _execute(app_state: AppState, statement: Insert | Delete) -> None:
    try:
        async with app_state.autocommit_engine.connect() as database:
            await database.execute(statement)
    except (SQLAlchemyError, OSError) as error:  # the next one may reach it
        log.warning("cannot say whether this process is alive: %s", type(error).__name__)
