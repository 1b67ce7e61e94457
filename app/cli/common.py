"""What every command shares: how it finds the service, and how it speaks."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from app.client import Client

out = Console()
errors = Console(stderr=True)  # progress and errors: stdout is for results

Url = Annotated[str | None, typer.Option(help="Address of the service (else UNVEIL_URL, else http://127.0.0.1:8000)")]
Token = Annotated[str | None, typer.Option(help="Bearer token (else UNVEIL_TOKEN)")]
State = Annotated[
    Path | None, typer.Option(help="State folder of an `unveil local`: takes address and token from there")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON")]


class Failed(Exception):
    """The work failed: exit code 1."""


class Misused(Exception):
    """The command was given something that makes no sense: exit code 2."""


def connect(url: str | None, token: str | None, state: Path | None, retries: int = 5) -> Client:
    if state is not None:
        url, token = url or _read(state / "address"), token or _read(state / "token")
    return Client(url, token, retries=retries)


def use_state(state: Path | None) -> None:
    """Take the settings of an `unveil local`, for a command that works on its database and files directly."""
    if state is None:
        return
    for line in _read(state / "secrets" / "environment").splitlines():
        name, _, value = line.partition("=")
        os.environ[name] = shlex.split(value)[0] if value else ""


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise Misused(f"{path}: {error.strerror}; give the folder that `unveil local --state` was given") from None
