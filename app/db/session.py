"""Engines and sessions: async for the HTTP service, sync for workers, commands and migrations."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from unveil.app.settings import Settings

# An error names the statement, never its values: those hold sealed keys and hashes of tokens.
_ENGINE_OPTIONS: dict[str, Any] = {"hide_parameters": True, "connect_args": {"connect_timeout": 5}}
_PING_AFTER_IDLE_S = 1.0


def async_engine(settings: Settings) -> AsyncEngine:
    engine = create_async_engine(settings.sqlalchemy_url, pool_size=10, max_overflow=10, **_ENGINE_OPTIONS)
    _ping_idle_connections(engine.sync_engine)
    return engine


def sync_engine(settings: Settings) -> Engine:
    engine = create_engine(settings.sqlalchemy_url, pool_size=2, max_overflow=2, **_ENGINE_OPTIONS)
    _ping_idle_connections(engine)
    return engine


@contextmanager
def session_scope(settings: Settings, **options: Any) -> Iterator[Session]:
    """For a command: its connection ends with it. `options` of the engine, such as isolation_level."""
    engine = sync_engine(settings)
    try:
        with Session(engine.execution_options(**options)) as session:
            yield session
    finally:
        engine.dispose()


def _ping_idle_connections(engine: Engine) -> None:
    """Ask a connection whether it still lives before its use, unless it was used a moment ago.

    SQLAlchemy's own pre-ping asks each time: a round trip in each request of a busy service.
    """

    @event.listens_for(engine, "checkin")
    def on_checkin(_: Any, record: Any) -> None:
        record.info["returned_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def on_checkout(connection: Any, record: Any, _: Any) -> None:
        if time.monotonic() - record.info.get("returned_at", math.inf) < _PING_AFTER_IDLE_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error  # the pool opens another


def async_sessions(engine: AsyncEngine) -> async_sessionmaker:  # type: ignore[type-arg]
    return async_sessionmaker(engine, expire_on_commit=False)


def sync_sessions(engine: Engine) -> sessionmaker:  # type: ignore[type-arg]
    return sessionmaker(engine, expire_on_commit=False)
