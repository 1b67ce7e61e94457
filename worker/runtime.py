"""Settings, connections and keyring of a worker process: one each, because a fork must not share connections."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from uuid import uuid4

from celery import Celery
from sqlalchemy.orm import Session, sessionmaker

from unveil.app.broker import make_celery_app
from unveil.app.db.session import sync_sessions, worker_engine
from unveil.app.security.envelope import Keyring, load_keyring
from unveil.app.settings import Settings, get_settings
from unveil.app.storage import BlobStore


@dataclass(frozen=True)
class Runtime:
    settings: Settings
    sessions: sessionmaker[Session]
    celery: Celery
    keyring: Keyring
    blobs: BlobStore
    owner: str  # lease_owner of this process


def make_runtime(settings: Settings, celery: Celery) -> Runtime:
    return Runtime(
        settings,
        sync_sessions(worker_engine(settings)),
        celery,
        load_keyring(settings),
        BlobStore(settings),
        lease_owner_prefix(os.getpid()) + uuid4().hex[:8],
    )


def lease_owner_prefix(pid: int) -> str:
    """Prefix of `lease_owner` for a process of this machine."""
    return f"{socket.gethostname()}/{pid}/"


def get_runtime() -> Runtime:
    """The runtime of this process."""
    return _runtime_of_process(os.getpid())


@cache
def _runtime_of_process(pid: int) -> Runtime:  # noqa: ARG001 - part of the cache key: a forked child needs its own
    settings = get_settings()
    return make_runtime(settings, make_celery_app(settings))
