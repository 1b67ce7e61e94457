"""`unveil keys`: encryption keys. `unveil.app.cli.admin` adds the commands for the master key ring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from unveil.app.cli import completion, spec_parser
from unveil.app.cli.common import (
    Failed,
    Json,
    Misused,
    State,
    Token,
    Url,
    connect,
    day,
    errors,
    listing,
    out,
    over,
    parse_json,
    print_json,
)
from unveil.app.client import Key
from unveil.app.client.progress import bar

keys = typer.Typer(help="Protection keys, and the key ring that seals them.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(help="key_...", metavar="KEY", autocompletion=completion.key)]
Watch = Annotated[bool, typer.Option("--watch", help="Follow its training to the end")]


def register(app: typer.Typer) -> None:
    app.add_typer(keys, name="keys")


@keys.command("list")
def list_keys(url: Url = None, token: Token = None, state: State = None, as_json: Json = False) -> None:
    """Your keys, never their secrets."""
    with connect(url, token, state) as client:
        found = list(client.keys.list())
    if as_json:
        print_json([key.raw for key in found])
        return
    table = listing("id", "status", "uses", "created", wraps=["id"])
    for key in found:
        params = (Text(f"{name}={value}", style="dim") for name, value in key.params.items())
        table.add_row(over(key.id, key.scheme, *params), key.status, str(key.uses), day(key.raw["created_at"]))
    out.print(table)


@keys.command()
def create(
    scheme: Annotated[
        str,
        typer.Argument(
            help="NAME[:SETTING]..., for example tanaka or tn-gan:epochs=10", autocompletion=completion.schemes
        ),
    ],
    profile: Annotated[str | None, typer.Option(help="To be trained: smoke, quick or paper")] = None,
    dataset: Annotated[str | None, typer.Option(help="To be trained on; `unveil datasets list` shows them")] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="To be trained: the same seed makes the same key, for whoever knows it; else it is drawn"),
    ] = None,
    material: Annotated[Path | None, typer.Option(help="JSON file with a key of your own")] = None,
    watch: Watch = False,
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Draw a key, keep your own, or train that of a network; prints its id."""
    given = None if material is None else _read(material)
    with connect(url, token, state) as client:
        name, params = spec_parser.parse_one(scheme, client.schemes())
        training = {"profile": profile, "dataset": dataset, "seed": seed}
        asked = {field: value for field, value in training.items() if value is not None}
        key = client.keys.create(name, {**params, **asked}, given)
        if watch:
            _follow(key)
    _show(key, as_json, brief=True)


@keys.command()
def show(
    id: KeyId, watch: Watch = False, url: Url = None, token: Token = None, state: State = None, as_json: Json = False
) -> None:
    """One key, never its secret."""
    with connect(url, token, state) as client:
        key = client.keys.get(id)
        if watch:
            _follow(key)
    _show(key, as_json)


@keys.command()
def export(id: KeyId, url: Url = None, token: Token = None, state: State = None) -> None:
    """Print the secret itself as JSON; the token needs the scope keys:export."""
    with connect(url, token, state) as client:
        print_json(client.keys.get(id).material())


@keys.command()
def cancel(id: KeyId, url: Url = None, token: Token = None, state: State = None, as_json: Json = False) -> None:
    """Stop the training of a key."""
    with connect(url, token, state) as client:
        _show(client.keys.get(id).cancel(), as_json)


@keys.command()
def destroy(
    id: KeyId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
    url: Url = None,
    token: Token = None,
    state: State = None,
) -> None:
    """Destroy a key for good: what it protects is lost."""
    with connect(url, token, state) as client:
        key = client.keys.get(id)
        if not yes:
            typer.confirm(f"Destroy {id} ({key.scheme}, used for {key.uses} images)?", abort=True, err=True)
        key.delete()


def _follow(key: Key) -> None:
    with bar(errors) as look:
        key.wait(progress=look)
    if key.status == "cancelled":
        raise Failed(f"{key.id} was cancelled; `unveil keys create` trains another")
    if not key.ready:
        raise Failed(f"{key.id} {key.status}: {(key.error or {}).get('detail', 'no reason was given')}")


def _show(key: Key, as_json: bool, *, brief: bool = False) -> None:
    if as_json:
        print_json(key.raw)
    elif brief:
        print(key.id)
    else:
        table = Table("field", Column("value", overflow="fold"), show_header=False, box=None)
        for field, value in key.raw.items():
            if value is not None and field != "links":
                table.add_row(Text(field, style="dim"), json.dumps(value) if isinstance(value, dict) else str(value))
        out.print(table)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(parse_json(path.read_text()))
    except (ValueError, TypeError):
        raise Misused(f"{path} holds no JSON object; `unveil keys export` prints such as it takes") from None
