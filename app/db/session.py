"""Engines and sessions: asynchronous for the HTTP service, synchronous for workers, commands and migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from unveil.app.settings import Settings

_ENGINE_OPTIONS: dict[str, Any] = {
    "hide_parameters": True,  # error messages must not contain wrapped keys or token hashes
    "pool_pre_ping": True,
    "connect_args": {"connect_timeout": 5},
}
IDLE_TRANSACTION_TIMEOUT_S = 60.0  # of workers, whose transactions take milliseconds


def async_engine(settings: Settings) -> AsyncEngine:
    return create_async_engine(settings.sqlalchemy_url, pool_size=10, max_overflow=10, **_ENGINE_OPTIONS)


def sync_engine(settings: Settings) -> Engine:
    return create_engine(settings.sqlalchemy_url, pool_size=2, max_overflow=2, **_ENGINE_OPTIONS)


def worker_engine(settings: Settings) -> Engine:
    """An engine whose idle transactions end: a suspended process must not keep rows locked, or its job stays lost."""
    engine = sync_engine(settings)

    @event.listens_for(engine, "connect")
    def limit_idle_transactions(connection: Any, _: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET idle_in_transaction_session_timeout = {round(1000 * IDLE_TRANSACTION_TIMEOUT_S)}")
        connection.commit()

    return engine


@contextmanager
def session_scope(settings: Settings, **options: Any) -> Iterator[Session]:
    """A session with an engine of its own, for a command. `options`: execution options, such as isolation_level."""
    engine = sync_engine(settings)
    try:
        with Session(engine.execution_options(**options)) as session:
            yield session
    finally:
        engine.dispose()


def async_sessions(engine: AsyncEngine) -> async_sessionmaker:  # type: ignore[type-arg]
    return async_sessionmaker(engine, expire_on_commit=False)


def sync_sessions(engine: Engine) -> sessionmaker:  # type: ignore[type-arg]
    return sessionmaker(engine, expire_on_commit=False)
