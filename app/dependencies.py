"""What a request may use of the world outside: made once in `unveil.app.main`, handed to routes as dependencies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import redis.asyncio
from fastapi import Depends
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from starlette.requests import HTTPConnection

from unveil.app.batching import Lookups
from unveil.app.broker import Messages, Parcels, celery_app
from unveil.app.db.session import async_engine, async_sessions
from unveil.app.security.concurrency_limiter import Turns
from unveil.app.security.envelope import KeyRing, load_key_ring
from unveil.app.security.rate_limiter import Rate
from unveil.app.settings import Settings
from unveil.app.storage import Blobs

# A Redis that does not answer must not hold a request for the operating system's minutes.
_CONNECT_S = 3.0


@dataclass(frozen=True)
class Services:
    settings: Settings
    ring: KeyRing
    engine: AsyncEngine
    autocommit: AsyncEngine  # the same connections; each statement its own transaction: one round trip, not three
    lookups: Lookups
    sessions: async_sessionmaker[AsyncSession]
    messages: Messages
    redis: redis.asyncio.Redis
    parcels: Parcels
    rate: Rate
    turns: Turns
    blobs: Blobs

    async def close(self) -> None:
        await self.engine.dispose()
        await self.redis.aclose()


def make_services(settings: Settings) -> Services:
    """Connects to nothing yet: a service whose database is away starts, and says so when asked."""
    ring, engine = load_key_ring(settings), async_engine(settings)
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    # One more try covers a connection that went stale; a broker that is away is told of at once.
    client = redis.asyncio.Redis.from_url(
        settings.redis_url, socket_connect_timeout=_CONNECT_S, retry=Retry(NoBackoff(), 1)
    )
    return Services(
        settings=settings,
        ring=ring,
        engine=engine,
        autocommit=autocommit,
        lookups=Lookups(autocommit),
        sessions=async_sessions(engine),
        messages=Messages(celery_app(settings)),
        redis=client,
        parcels=Parcels(ring),
        rate=Rate(client),
        turns=Turns(),
        blobs=Blobs(settings),
    )


def services(connection: HTTPConnection) -> Services:
    found: Services = connection.app.state.services
    return found


# Dependencies are coroutines throughout: FastAPI sends a plain function to a thread and back.
async def _services(connection: HTTPConnection) -> Services:
    return services(connection)


Svc = Annotated[Services, Depends(_services)]


async def session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
    """One database session a request. Services commit; what they leave uncommitted is rolled back."""
    async with services(connection).sessions() as opened:
        yield opened


# "function": closed before the answer goes out, so a slow reader holds no database connection.
Session = Annotated[AsyncSession, Depends(session, scope="function")]
