"""`unveil local | serve | worker | migrate | doctor`: running the service."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from unveil.app.cli.common import (
    CommandFailed,
    Json,
    ServiceUnreachable,
    State,
    Token,
    Url,
    UsageError,
    database_errors_to_exit_code,
    load_state_dir,
    print_json,
    read_settings,
    stdout,
)

PluginSources = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin", metavar="FILE|MODULE", help="Plug-in to load, in addition to UNVEIL_PLUGINS; can be repeated"
    ),
]

_SHUTDOWN_TIMEOUT_S = 10  # bounds running requests; event streams do not end by themselves
_QUEUES = ("encrypt", "attack", "ops")
_MAX_PROCESSES = 1024  # processes: each is started at once, and a slip of the hand would take the machine down


def register(app: typer.Typer) -> None:
    for command in (local, serve, worker, migrate, doctor):
        app.command()(command)


def _add_plugins(sources: list[str] | None) -> None:
    if sources:
        from unveil.models.catalog import add_plugins  # imported late: it loads NumPy

        add_plugins(sources)


def local(
    state: Annotated[Path, typer.Option(help="Folder for all state")] = Path(".state/up"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 chooses a free one")] = 8000,
    attack_workers: Annotated[
        int, typer.Option(min=1, max=_MAX_PROCESSES, help="Number of jobs at once; they share the cores")
    ] = 1,
    plugin: PluginSources = None,
) -> None:
    """Run PostgreSQL, Redis, the service and its workers on this machine. Ctrl-C stops them."""
    from unveil.app.local.stack import run_until_signal

    _add_plugins(plugin)
    read_settings()  # reports invalid settings before the command changes anything
    raise typer.Exit(run_until_signal(state, port, attack_workers))


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    processes: Annotated[int, typer.Option(min=1, max=_MAX_PROCESSES, help="Number of server processes")] = 1,
    plugin: PluginSources = None,
) -> None:
    """Run the HTTP service, configured by UNVEIL_* environment variables."""
    import uvicorn

    from unveil.app.http.connections import KEEP_ALIVE_S, DeadlineProtocol

    _add_plugins(plugin)
    settings = read_settings()
    trusted_proxies = settings.forwarded_allow_ips
    uvicorn.run(
        "unveil.app.main:create_app", factory=True, host=host, port=port, workers=processes,
        proxy_headers=bool(trusted_proxies), forwarded_allow_ips=trusted_proxies or None,
        timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT_S, timeout_keep_alive=KEEP_ALIVE_S,
        http=DeadlineProtocol, limit_concurrency=settings.max_connections,
    )  # fmt: skip


def worker(
    queues: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(_QUEUES)}")] = ",".join(_QUEUES),
    concurrency: Annotated[
        int, typer.Option(min=1, max=_MAX_PROCESSES, help="Jobs at once; for the queue attack: 1 for each device")
    ] = 1,
    plugin: PluginSources = None,
) -> None:
    """Run a Celery worker. At least one worker must serve the queue `ops`, which requeues lost jobs."""
    requested = queues.split(",")
    unknown = [queue for queue in requested if queue not in _QUEUES]
    if unknown:
        raise UsageError(f"unknown queue {unknown[0]!r}; choose from {', '.join(_QUEUES)}")
    _add_plugins(plugin)
    read_settings()
    command = [
        sys.executable, "-m", "celery", "--app", "unveil.worker.main", "worker", "--loglevel", "INFO",
        "--queues", queues, "--concurrency", str(concurrency), "--without-gossip", "--without-mingle",
        "--hostname", f"{queues.replace(',', '-')}-{os.getpid()}@%h",  # several may run on a machine
    ]  # fmt: skip
    os.execv(command[0], command)


def migrate(
    revision: Annotated[str, typer.Argument(help="Alembic revision to migrate to")] = "head",
    state: State = None,
) -> None:
    """Migrate the database to the newest schema."""
    load_state_dir(state)
    read_settings()
    from alembic import command
    from alembic.util import CommandError

    from unveil.app.db.migrate import alembic_config

    try:
        with database_errors_to_exit_code():
            command.upgrade(alembic_config(), revision)
    except CommandError as error:
        raise UsageError(str(error)) from None


def doctor(url: Url = None, token: Token = None, state: State = None, as_json: Json = False) -> None:
    """Check this installation and its service; with --url, only the service at that address."""
    from unveil.app.cli.doctor import run_checks

    if url is None:
        load_state_dir(state)
    checks = run_checks(url, token, state)
    if as_json:
        print_json([vars(check) for check in checks])
    else:
        from rich.text import Text

        colours = {"ok": "green", "note": "yellow", "bad": "bold red", "away": "bold red"}
        for check in checks:
            grade = f"{check.grade:>4}", colours[check.grade]
            stdout().print(Text.assemble(grade, "  ", (check.name, "bold"), f": {check.detail}"), soft_wrap=True)
    bad = [check.name for check in checks if check.grade in ("bad", "away")]
    if bad:
        kind = ServiceUnreachable if any(check.grade == "away" for check in checks) else CommandFailed
        raise kind(f"failed checks: {', '.join(bad)}")
