"""What every command shares: how it finds the service, and how it speaks."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from app.client import Client

out = Console()
errors = Console(stderr=True)  # progress and errors: stdout is for results

Url = Annotated[
    str | None,
    typer.Option(help="Address of the service (else that of --state, else UNVEIL_URL, else http://127.0.0.1:8000)"),
]
Token = Annotated[str | None, typer.Option(help="Bearer token (else that of --state, else UNVEIL_TOKEN)")]
State = Annotated[
    Path | None,
    typer.Option(help="State folder of an `unveil local`: takes address and token from there", envvar="UNVEIL_STATE"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON")]


class Failed(Exception):
    """The work failed: exit code 1."""


class Misused(Exception):
    """The command was given something that makes no sense: exit code 2."""


def connect(url: str | None, token: str | None, state: Path | None, retries: int = 5) -> Client:
    """Raises Misused where address or folder are none."""
    try:
        return Client(url, token, local=state, retries=retries)
    except ValueError as error:
        raise Misused(str(error)) from None
    except OSError as error:
        raise _no_state(error) from None


def use_state(state: Path | None) -> None:
    """Take the settings of an `unveil local`, for a command that works on its database and files directly."""
    if state is None:
        return
    try:
        environment = (state / "secrets" / "environment").read_text()
    except OSError as error:
        raise _no_state(error) from None
    for line in environment.splitlines():
        name, _, value = line.partition("=")
        os.environ[name] = shlex.split(value)[0] if value else ""


def listing(*headings: str, wraps: Collection[str] = ()) -> Table:
    """A table in which only the columns of `wraps` give way to a narrow terminal: ids are there to be copied."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading not in wraps)
    return table


def day(moment: str) -> str:
    """Of a time as the service writes it."""
    return moment[:10]


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))


def _no_state(error: OSError) -> Misused:
    return Misused(f"{error.filename}: {error.strerror}; give the folder that `unveil local --state` was given")
