"""The checks of `unveil doctor`. Each failed check states the remedy."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unveil.app.cli.common import connect
from unveil.app.client.errors import ProblemError, Unreachable
from unveil.models.catalog import builtin_datasets, plugins

# Imported where used: the base install has no server package, and `unveil doctor` still checks the rest.
if TYPE_CHECKING:
    from unveil.app.settings import Settings

_REMOTE_TIMEOUT_S = 10.0

Grade = Literal["ok", "note", "bad", "away"]  # away: the service at --url does not answer


@dataclass(frozen=True)
class Check:
    name: str
    grade: Grade
    detail: str


def run_checks(url: str | None, token: str | None, state: Path | None) -> list[Check]:
    """Check this installation and its service; with `url`, the service there and nothing else."""
    if url is not None:
        return _check_remote_service(url, token, state)
    checks = list(_check_installation())
    if importlib.util.find_spec("sqlalchemy") is None:
        return [*checks, _check_service(token, state)]

    from pydantic import ValidationError

    from unveil.app.settings import Settings

    try:
        settings = Settings()
    except ValidationError as error:
        return [*checks, Check("settings", "bad", str(error))]
    for check in (_database, _broker, _keyring, _blobs, _data, _workers):
        checks.append(_run_check(check, settings))  # noqa: PERF401 - a comprehension would hide the loop's point
    return [*checks, _check_service(token, state)]


def _check_installation() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} on {platform.machine()}")
    for package, extra, user in (
        ("torch", "torch", "workers and attacks that train networks need it"),
        ("sqlalchemy", "server", "the service and its workers need it"),
    ):
        if importlib.util.find_spec(package) is None:
            yield Check(package, "note", f"not installed; {user}: pip install 'unveil[{extra}]'")
        else:
            yield Check(package, "ok", importlib.metadata.version(package))
    for plugin in plugins():
        detail = f"{plugin.kind} of {plugin.distribution}" if plugin.error is None else f"not loaded: {plugin.error}"
        yield Check(f"plug-in {plugin.name}", "ok" if plugin.error is None else "bad", detail)
    free = shutil.disk_usage(Path.cwd()).free
    yield Check("disk", "ok" if free > 2**30 else "note", f"{free / 2**30:.1f} GiB free here")


def _run_check(check: Callable[[Settings], Check], settings: Settings) -> Check:
    import psycopg
    import redis
    from sqlalchemy.exc import SQLAlchemyError

    name = check.__name__.strip("_").replace("_", " ")
    try:
        return check(settings)
    except (psycopg.Error, redis.RedisError, SQLAlchemyError, OSError, ValueError, RuntimeError) as error:
        message = str(getattr(error, "orig", error)).strip().partition("\n")[0] or type(error).__name__
        return Check(name, "bad", f"{message}; {_HINT_BY_CHECK[name]}")


_HINT_BY_CHECK = {
    "database": "start it, or set UNVEIL_DATABASE_URL to its address",
    "broker": "start it, or set UNVEIL_REDIS_URL to its address",
    "keyring": "set UNVEIL_KEYRING_FILE to a keyring that this user can read; unveil keys new-ring FILE creates one",
    "blobs": "set UNVEIL_BLOB_URL to a folder or bucket that this user can write to",
    "data": "set UNVEIL_DATA_DIR to a folder that this user can read",
    "workers": "their heartbeats are read from the database",
}


def _database(settings: Settings) -> Check:
    import psycopg

    from unveil.app.db.migrate import script_directory

    newest = script_directory().get_current_head()
    with psycopg.connect(settings.database_url, connect_timeout=3) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except psycopg.errors.UndefinedTable:
            row = None
    if row is None or row[0] != newest:
        return Check(
            "database",
            "bad",
            f"reachable, but its schema is {row[0] if row else 'missing'} instead of {newest}: run unveil migrate",
        )
    return Check("database", "ok", f"reachable, schema {newest}")


def _broker(settings: Settings) -> Check:
    import redis

    with redis.Redis.from_url(settings.redis_url, socket_timeout=3, socket_connect_timeout=3) as client:
        info: dict[str, str] = client.info()
        on_disk = client.config_get("appendonly").get("appendonly") == "yes" or client.config_get("save").get("save")
    version = f"Redis {info['redis_version']}"
    if on_disk:
        advice = (
            'writes encrypted requests to disk, although it needs no persistence: set `appendonly no` and `save ""`'
        )
        return Check("broker", "note", f"{version} {advice}")
    return Check("broker", "ok", version)


def _keyring(settings: Settings) -> Check:
    from sqlalchemy.exc import SQLAlchemyError

    from unveil.app.db.session import session_scope
    from unveil.app.security.envelope import load_keyring
    from unveil.app.security.key_rotation import master_versions_in_use

    keyring = load_keyring(settings)
    if settings.keyring_file is None:
        return Check("keyring", "note", "the built-in development key; for production: unveil keys new-ring FILE")
    if settings.keyring_file.stat().st_mode & 0o077:
        return Check("keyring", "bad", f"other users can read {settings.keyring_file}: chmod 600 it")
    with suppress(SQLAlchemyError), session_scope(settings) as session:  # without a database, none of this
        missing = set(master_versions_in_use(session)) - set(keyring.master_keys)
        if missing:
            numbers = ", ".join(map(str, sorted(missing)))
            return Check("keyring", "bad", f"keys are encrypted under master key {numbers}, which the keyring lacks")
    count = len(keyring.master_keys)
    return Check("keyring", "ok", f"{count} master key(s); version {keyring.primary_version} encrypts")


def _blobs(settings: Settings) -> Check:
    from unveil.app.ops.health import MIN_FREE_BYTES
    from unveil.app.storage import BlobStore

    blobs, name = BlobStore(settings), f"doctor/{uuid.uuid4().hex}"
    blobs.write(name, b"x")
    blobs.delete_folder("doctor")
    free = blobs.free_bytes()
    if free is not None and free < MIN_FREE_BYTES:
        problem = f"only {free / 2**20:.0f} MiB are free at {settings.blob_url}"
        return Check(
            "blobs", "bad", f"{problem}: free some space, for example with unveil retention, or jobs will fail"
        )
    return Check("blobs", "ok", f"{settings.blob_url} is writable")


def _data(settings: Settings) -> Check:
    datasets = builtin_datasets(settings.data_dir)
    here = [info.name for info in datasets if info.available]
    missing = [info.name for info in datasets if not info.available]
    detail = f"{', '.join(here)} here" + (f"; {', '.join(missing)} not available" if missing else "")
    return Check("data", "ok", detail)


def _workers(settings: Settings) -> Check:
    from unveil.app.db.heartbeats import ATTACK_QUEUE, ENCRYPT_QUEUE, OPS_QUEUE, select_live_processes
    from unveil.app.db.session import session_scope

    with session_scope(settings) as session:
        served_queues = {queue for row in session.scalars(select_live_processes()) for queue in row.queues}
    missing = {
        ENCRYPT_QUEUE: "encryption requests time out: run unveil worker --queues encrypt,ops",
        OPS_QUEUE: "lost jobs are not requeued: run unveil worker --queues ops",
        ATTACK_QUEUE: "evaluations and trainings wait: run unveil worker --queues attack",
    }
    for queue, advice in missing.items():
        if queue not in served_queues:
            return Check("workers", "note" if queue == ATTACK_QUEUE else "bad", f"none on {queue}; {advice}")
    return Check("workers", "ok", "on every queue")


def _check_remote_service(url: str, token: str | None, state: Path | None) -> list[Check]:
    """The components that the service reports, and whether it accepts the token. Only reads."""
    import httpx

    with connect(url, token, state, retries=0) as client:
        try:
            response = httpx.get(f"{client.url.rstrip('/')}/health/ready", timeout=_REMOTE_TIMEOUT_S)
            parts = response.json()["parts"]
        except httpx.TransportError:
            return [Check("service", "away", f"no service responds at {client.url}")]
        except (ValueError, KeyError, TypeError):
            answer = f"status {response.status_code}, which is not a response of Unveil: check the address"
            return [Check("service", "bad", f"{client.url} responds with {answer}")]
        checks = [Check("service", "ok", f"{client.url} answers")]
        checks += [Check(name, "ok" if part["ok"] else "bad", part["detail"]) for name, part in parts.items()]
        try:
            client.schemes()
        except ProblemError as error:
            return [*checks, Check("token", "bad", f"{error}; give another token: --token, --state or UNVEIL_TOKEN")]
    return [*checks, Check("token", "ok", "accepted")]


def _check_service(token: str | None, state: Path | None) -> Check:
    with connect(None, token, state, retries=0) as client:
        try:
            parts = client.ready()["parts"]
        except Unreachable:
            return Check("service", "note", f"no service responds at {client.url}")
        except ProblemError as error:
            return Check("service", "bad", f"{client.url}: {error}")
    details = "; ".join(f"{name} {part['detail']}" for name, part in parts.items())
    return Check("service", "ok", f"{client.url}: {details}")
