"""The HTTP service: `uvicorn --factory unveil.app.main:create_app`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from unveil.app.accounts.routes import router as accounts
from unveil.app.board.routes import router as board
from unveil.app.catalog.routes import router as catalog
from unveil.app.dashboard.routes import router as dashboard
from unveil.app.datasets.routes import router as datasets
from unveil.app.dependencies import make_app_state
from unveil.app.encryption.routes import router as encryption
from unveil.app.errors.problem import (
    BadRequest,
    Forbidden,
    Invalid,
    ServerProblem,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)
from unveil.app.evaluations.routes import router as evaluations
from unveil.app.evaluations.signatures import router as signatures
from unveil.app.evaluations.sse import StreamLimiter
from unveil.app.http import docs
from unveil.app.http.exception_handlers import EXCEPTION_HANDLERS
from unveil.app.http.limits import BodyLimitMiddleware
from unveil.app.http.openapi import build_openapi
from unveil.app.http.problems import problems
from unveil.app.http.request_context import RequestContextMiddleware
from unveil.app.http.root_path import RootPathMiddleware
from unveil.app.jobs.routes import router as jobs
from unveil.app.keys.routes import router as keys
from unveil.app.observability.logging import configure_logging
from unveil.app.ops import health, metrics
from unveil.app.ops.heartbeat import send_heartbeats
from unveil.app.settings import Settings, get_settings
from unveil.app.shares.routes import router as shares
from unveil.app.webhooks.routes import router as webhooks
from unveil.app.webhooks.sender import send_deliveries
from unveil.models.catalog import load_plugins
from unveil.models.core.version import __version__

_COMMON_PROBLEMS = problems(
    BadRequest, Unauthenticated, Forbidden, TooLarge, UnsupportedMedia, Invalid, TooMany, ServerProblem, Unavailable
)


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or get_settings()
    load_plugins(torch_free=True)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        configure_logging()
        app_state = app.state.app_state = make_app_state(settings)
        try:
            async with (
                send_heartbeats(app_state.autocommit_engine, app_state.keyring, settings.heartbeat_interval_s),
                send_deliveries(app_state),
            ):
                yield
        finally:
            await app_state.close()

    app = FastAPI(
        title="Unveil",
        version=__version__,
        summary="Protects images with learnable encryption and measures what an attacker can still see.",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # replaced by unveil.app.http.docs, which needs no CDN
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        exception_handlers=EXCEPTION_HANDLERS,
    )
    app.state.readiness = health.Readiness()
    app.state.streams = StreamLimiter(settings.max_event_streams)
    for router in (
        encryption, keys, accounts, catalog, datasets, evaluations, signatures, shares, webhooks, board, jobs,
    ):  # fmt: skip
        max_body_size = settings.max_upload_bytes if router is datasets else None
        app.include_router(router, responses=_COMMON_PROBLEMS, max_body_size=max_body_size)
    for router in (health.router, metrics.router, docs.router, dashboard):
        app.include_router(router)
    app.openapi = lambda: build_openapi(app)  # type: ignore[method-assign]

    # The middleware added last is the outermost.
    app.add_middleware(BodyLimitMiddleware, max_body_size=settings.max_body_bytes)
    app.add_middleware(RequestContextMiddleware)
    metrics.instrument(app)
    if settings.root_path:
        app.add_middleware(RootPathMiddleware, root_path=settings.root_path)
    return app
