"""`unveil`: the command line. Exit codes: 0 done, 1 the work failed, 2 wrong usage, 3 the service cannot be reached."""

from __future__ import annotations

import os
import sys

import typer

from app.cli import admin, audits, datasets, images, server
from app.cli.common import Failed, Misused, errors
from app.client.errors import Forbidden, Invalid, NotFound, ProblemError, ServerProblem, Unauthenticated, Unreachable

DONE, FAILED, MISUSED, UNREACHABLE = 0, 1, 2, 3

app = typer.Typer(
    name="unveil",
    help="Protect images with learnable encryption and measure what an attacker can still see.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for module in (server, images, audits, datasets, admin):
    module.register(app)


def main() -> None:
    try:
        app()
    except KeyboardInterrupt:
        errors.print("interrupted")
        sys.exit(130)
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except (ProblemError, Unreachable, Failed, Misused) as error:
        errors.print(f"[bold red]error:[/] {_plain(error)}", highlight=False, soft_wrap=True)
        sys.exit(exit_code(error))


def exit_code(error: Exception) -> int:
    match error:
        case Unreachable():
            return UNREACHABLE
        case ServerProblem(status=503):
            return UNREACHABLE
        case Invalid() | Unauthenticated() | Forbidden() | NotFound() | Misused():
            return MISUSED
        case _:
            return FAILED


def _plain(error: Exception) -> str:
    """The message with nothing that rich would take for markup."""
    return str(error).replace("[", r"\[")
