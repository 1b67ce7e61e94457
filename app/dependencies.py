"""The state of the application (connections, keys, limiters), created by `unveil.app.main`, and its dependencies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import redis.asyncio
from celery import Celery
from fastapi import Depends
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from starlette.requests import HTTPConnection

from unveil.app.batching import RowLoader
from unveil.app.broker import make_celery_app
from unveil.app.db.session import async_engine, async_sessions
from unveil.app.rpc.client import WorkerClient
from unveil.app.rpc.codec import EncryptedMessageCodec
from unveil.app.security.concurrency_limiter import AccountConcurrencyLimiter
from unveil.app.security.envelope import Keyring, load_keyring
from unveil.app.security.rate_limiter import RateLimiter
from unveil.app.settings import Settings
from unveil.app.storage import BlobStore

# The operating system would wait for minutes.
_REDIS_CONNECT_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class AppState:
    settings: Settings
    keyring: Keyring
    engine: AsyncEngine
    autocommit_engine: AsyncEngine  # the same connection pool; one round trip for each statement instead of three
    loader: RowLoader
    sessions: async_sessionmaker[AsyncSession]
    celery: Celery
    redis: redis.asyncio.Redis
    worker: WorkerClient
    rate_limiter: RateLimiter
    concurrency_limiter: AccountConcurrencyLimiter
    blobs: BlobStore

    async def close(self) -> None:
        await self.engine.dispose()
        await self.redis.aclose()
        self.celery.close()


def make_app_state(settings: Settings) -> AppState:
    """Opens no connection, so that the service starts without its database and reports that as not ready."""
    keyring, engine = load_keyring(settings), async_engine(settings)
    autocommit_engine = engine.execution_options(isolation_level="AUTOCOMMIT")
    # One retry replaces a stale pooled connection; an unavailable Redis is still reported at once.
    client = redis.asyncio.Redis.from_url(
        settings.redis_url, socket_connect_timeout=_REDIS_CONNECT_TIMEOUT_S, retry=Retry(NoBackoff(), 1)
    )
    celery, limiter = make_celery_app(settings), AccountConcurrencyLimiter()
    return AppState(
        settings=settings,
        keyring=keyring,
        engine=engine,
        autocommit_engine=autocommit_engine,
        loader=RowLoader(autocommit_engine),
        sessions=async_sessions(engine),
        celery=celery,
        redis=client,
        worker=WorkerClient(celery, client, EncryptedMessageCodec(keyring), limiter, autocommit_engine),
        rate_limiter=RateLimiter(client),
        concurrency_limiter=limiter,
        blobs=BlobStore(settings),
    )


def get_app_state(connection: HTTPConnection) -> AppState:
    app_state: AppState = connection.app.state.app_state
    return app_state


# Dependencies are coroutines, because FastAPI runs plain functions in a thread.
async def _get_app_state(connection: HTTPConnection) -> AppState:
    return get_app_state(connection)


AppStateDep = Annotated[AppState, Depends(_get_app_state)]


async def get_session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
    """The session of a request. Services commit; uncommitted changes are rolled back."""
    async with get_app_state(connection).sessions() as db_session:
        yield db_session


# scope="function" closes the session before the response is sent, so that a slow client holds no connection.
Session = Annotated[AsyncSession, Depends(get_session, scope="function")]
