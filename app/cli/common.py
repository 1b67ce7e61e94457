"""Options, connection, error classes and output that all commands share."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from unveil.app.client.client import Client
    from unveil.app.security.envelope import Keyring
    from unveil.app.settings import Settings

Url = Annotated[
    str | None,
    typer.Option(help="Address of the service; default: from --state, then UNVEIL_URL, then http://127.0.0.1:8000"),
]
Token = Annotated[str | None, typer.Option(help="Bearer token; default: from --state, then UNVEIL_TOKEN")]
State = Annotated[
    Path | None,
    typer.Option(help="State folder of `unveil local`, which holds its address and token", envvar="UNVEIL_STATE"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON")]

_UNREACHABLE_SQLSTATES = ("08", "57P")  # a connection refused or lost; a server that starts or stops


class CommandFailed(Exception):
    """The command failed: exit code 1."""


class ServiceUnreachable(CommandFailed):
    """The database, or the service that was named, cannot be reached: exit code 3."""


class UsageError(Exception):
    """The command was called with invalid arguments: exit code 2."""


@cache
def stdout() -> Console:
    """For results. Rich is imported when something is printed: `unveil --version` does without."""
    from unveil.app.cli.console import make_console

    return make_console(sys.stdout.isatty())


@cache
def stderr() -> Console:
    """For progress and errors."""
    from unveil.app.cli.console import make_console

    return make_console(sys.stderr.isatty(), stderr=True)


def print_labelled(label: str, style: str, text: str) -> None:
    """Print `label: text` to stderr."""
    from rich.text import Text

    stderr().print(Text.assemble((f"{label}:", style), " ", text), soft_wrap=True)


def connect(url: str | None, token: str | None, state: Path | None, retries: int = 5) -> Client:
    """Raises UsageError if the address or the folder cannot be used."""
    with _skipped_imports("httpx._main", "trio"):
        import httpcore  # noqa: F401
        import httpx  # noqa: F401

    from unveil.app.client.client import Client

    try:
        return Client(url, token, local=state, retries=retries)
    except ValueError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise _state_dir_error(error) from None


@contextmanager
def _skipped_imports(*names: str) -> Iterator[None]:
    """Imports of these modules fail meanwhile.

    For optional parts of a package that it imports wherever they are installed, and that no command uses: the command
    line of httpx and its support for Trio take longer to import than all the rest of it.
    """
    skipped = {name for name in names if name not in sys.modules}
    sys.modules.update(dict.fromkeys(skipped))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in skipped:
            del sys.modules[name]


def load_state_dir(state: Path | None) -> None:
    """Read the settings of an `unveil local`, for a command that works on its database and files directly."""
    if state is None:
        return
    try:
        environment = (state / "secrets" / "environment").read_text()
    except OSError as error:
        raise _state_dir_error(error) from None
    for line in environment.splitlines():
        name, _, value = line.partition("=")
        os.environ[name] = shlex.split(value)[0] if value else ""


def read_settings() -> Settings:
    """The settings in the environment. Raises UsageError."""
    from pydantic import ValidationError

    from unveil.app.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise UsageError("; ".join(wrong)) from None


def read_keyring(settings: Settings) -> Keyring:
    """Raises UsageError, OSError."""
    from unveil.app.security.envelope import load_keyring

    try:
        return load_keyring(settings)
    except ValueError as error:
        raise UsageError(f"{settings.keyring_file} is not a keyring: {error}") from None
    except RuntimeError as error:  # no keyring is set where one is required
        raise UsageError(str(error)) from None


@contextmanager
def database_errors_to_exit_code() -> Iterator[None]:
    """For commands that work on the database directly. Raises CommandFailed, ServiceUnreachable: cause and remedy."""
    import psycopg
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (psycopg.Error, SQLAlchemyError) as error:
        cause = getattr(error, "orig", None) or error
        kind, advice = CommandFailed, ""
        if isinstance(cause, psycopg.OperationalError) and (cause.sqlstate or _UNREACHABLE_SQLSTATES[0]).startswith(
            _UNREACHABLE_SQLSTATES
        ):
            kind = ServiceUnreachable
            advice = "; start it, or give its address: --state DIR of a running `unveil local`, or UNVEIL_DATABASE_URL"
        elif isinstance(cause, (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)):
            advice = "; `unveil migrate` brings it to the newest schema"
        reason, *_ = str(cause).strip().split("\n")
        raise kind(f"the database: {reason}{advice}") from None


def describe_os_error(error: OSError) -> str:
    """The system's message about a path, without its error number."""
    if isinstance(error, FileExistsError):  # where a folder was to be made
        return f"{error.filename}: a file of that name already exists"
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{error.filename}: {reason}"


def parse_json(text: str) -> Any:
    """Raises ValueError, also for NaN and infinity: Python reads them, but no JSON can carry them to the service."""
    value = json.loads(text)
    json.dumps(value, allow_nan=False)
    return value


def print_items(
    as_json: bool, items: Any, headings: Sequence[str], rows: Iterable[Sequence[RenderableType]], wraps: Collection[str]
) -> None:
    """Print the items as JSON, or their rows as a table."""
    if as_json:
        print_json(items)
    else:
        stdout().print(make_table(headings, rows, wraps))


def print_result(as_json: bool, value: Any, text: str) -> None:
    if as_json:
        print_json(value)
    else:
        print(text)


def make_table(headings: Sequence[str], rows: Iterable[Sequence[RenderableType]], wraps: Collection[str] = ()) -> Table:
    """On a narrow terminal the columns of `wraps` wrap, and all others are cut off with `…`."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        wraps_column = heading in wraps
        table.add_column(heading, overflow="fold" if wraps_column else "ellipsis", no_wrap=not wraps_column)
    for row in rows:
        table.add_row(*row)
    return table


def stacked(id: str, *lines: str | Text) -> RenderableType:
    """An id with its description in lines below it: 80 columns have no room for both side by side."""
    from rich.console import Group
    from rich.padding import Padding

    return Group(id, Padding(Group(*lines), (0, 0, 0, 2)))


def format_date(moment: str | None) -> str:
    """The date of a time as the service writes it; empty for none."""
    return "" if moment is None else moment[:10]


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))


def _state_dir_error(error: OSError) -> UsageError:
    return UsageError(f"{describe_os_error(error)}; give the state folder of `unveil local`")
