"""`unveil keys`: encryption keys, and the master keyring that encrypts them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unveil.app.cli import completion, references, spec_parser
from unveil.app.cli.common import (
    CommandFailed,
    Json,
    State,
    Token,
    Url,
    UsageError,
    connect,
    format_date,
    parse_json,
    print_items,
    print_json,
    stacked,
    stderr,
    stdout,
)
from unveil.app.cli.groups import CommandGroup
from unveil.app.cli.master_key import require_keyring_file, rotate_master_key

if TYPE_CHECKING:
    from unveil.app.client.key import Key

keys = CommandGroup(help="Manage encryption keys and the keyring that encrypts them.")

KeyId = Annotated[
    str,
    typer.Argument(
        help="Id (key_...) or a prefix of it, or latest", metavar="KEY", autocompletion=completion.complete_key
    ),
]
Watch = Annotated[bool, typer.Option("--watch", help="Wait until the training of the key ends")]


def register(app: typer.Typer) -> None:
    app.add_typer(keys, name="keys")


@keys.command("list")
def list_keys(url: Url = None, token: Token = None, state: State = None, as_json: Json = False) -> None:
    """List your keys, without their secrets."""
    with connect(url, token, state) as client:
        items = list(client.keys.list())
    from rich.text import Text

    rows = []
    for key in items:
        params = (Text(f"{name}={value}", style="dim") for name, value in key.params.items())
        rows.append(
            (stacked(key.id, key.scheme, *params), key.status, str(key.uses), format_date(key.raw["created_at"]))
        )
    print_items(as_json, [key.raw for key in items], ("id", "status", "uses", "created"), rows, ["id"])


@keys.command()
def create(
    scheme: Annotated[
        str,
        typer.Argument(
            help="NAME[:SETTING]..., for example tanaka or tn-gan:epochs=10", autocompletion=completion.complete_schemes
        ),
    ],
    profile: Annotated[
        str | None, typer.Option(help="Profile for the training of a key: smoke, quick or paper")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Dataset to train on; see `unveil datasets list`")] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the training; anyone who knows it can train the same key; default: random"),
    ] = None,
    material: Annotated[Path | None, typer.Option(help="JSON file with explicit key material")] = None,
    watch: Watch = False,
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Create a key: draw one at random, import key material, or start a training. Prints the id of the key."""
    material_json = None if material is None else _read_json_object(material)
    with connect(url, token, state) as client:
        name, params = spec_parser.parse_spec(scheme, client.schemes())
        dataset = None if dataset is None else references.dataset_id(client, dataset)
        training = {"profile": profile, "dataset": dataset, "seed": seed}
        training_params = {field: value for field, value in training.items() if value is not None}
        key = client.keys.create(name, {**params, **training_params}, material_json)
        if watch:
            _wait_for_training(key)
    _print_key(key, as_json, id_only=True)


@keys.command()
def show(
    id: KeyId, watch: Watch = False, url: Url = None, token: Token = None, state: State = None, as_json: Json = False
) -> None:
    """Show a key, without its secret."""
    with connect(url, token, state) as client:
        key = client.keys.get(references.key_id(client, id))
        if watch:
            _wait_for_training(key)
    _print_key(key, as_json)


@keys.command()
def export(id: KeyId, url: Url = None, token: Token = None, state: State = None) -> None:
    """Print the secret of a key as JSON. The token needs the scope keys:export."""
    with connect(url, token, state) as client:
        print_json(client.keys.get(references.key_id(client, id)).material())


@keys.command()
def cancel(id: KeyId, url: Url = None, token: Token = None, state: State = None, as_json: Json = False) -> None:
    """Cancel the training of a key."""
    with connect(url, token, state) as client:
        _print_key(client.keys.get(references.key_id(client, id)).cancel(), as_json)


@keys.command()
def destroy(
    id: KeyId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation")] = False,
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough",
            help="For operators: afterwards rotate the master key and vacuum the database, so that no copy of the key "
            "in database files or backups can be decrypted with the new keyring",
        ),
    ] = False,
    url: Url = None,
    token: Token = None,
    state: State = None,
) -> None:
    """Destroy a key permanently. Images that it protects can no longer be decrypted."""
    if thorough:
        require_keyring_file(state)  # before the key is destroyed
    from unveil.app.client.errors import KeyDestroyed

    try:
        with connect(url, token, state) as client:
            key = client.keys.get(references.key_id(client, id))
            if not yes:
                typer.confirm(f"Destroy {key.id} ({key.scheme}, used for {key.uses} images)?", abort=True, err=True)
            key.delete()
    except KeyDestroyed as problem:  # earlier, or by a run of this command whose rotation failed
        if not thorough:
            raise
        stderr().print(problem.detail)
    if thorough:
        rotate_master_key(state, after_destruction=True)


# --- the master keyring ---


@keys.command("new-ring")
def create_keyring(file: Annotated[Path, typer.Argument(help="File to create, for UNVEIL_KEYRING_FILE")]) -> None:
    """Create a keyring: the master key that encrypts all secrets, and the pepper of the token hashes.

    Store a copy separately from the database: without the keyring no key can be decrypted.
    """
    from unveil.app.security.envelope import new_keyring

    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file_object:
            file_object.write(new_keyring().dumps())
    except FileExistsError:
        raise UsageError(
            f"{file} exists; choose another name, because a new keyring cannot decrypt existing secrets"
        ) from None
    stderr().print(f"wrote {file}")


@keys.command("rotate-master")
def rotate_master(
    state: State = None,
    patience: Annotated[
        float, typer.Option(min=0, max=86_400, help="Seconds to wait until every process has loaded the new keyring")
    ] = 60.0,
) -> None:
    """Rewrap all data-encryption keys under a new master key while the service runs. Resumes after an abort."""
    rotate_master_key(state, timeout_s=patience)


@keys.command("add-master")
def add_master(file: Annotated[Path, typer.Argument(help="The keyring file")]) -> None:
    """Add a master key to a keyring file. Distribute the file, then run `unveil keys rotate-master`."""
    from unveil.app.security.envelope import parse_keyring
    from unveil.app.security.key_rotation import RotationIncomplete, exclusive_rotation, write_keyring_file

    try:
        with exclusive_rotation(file):
            keyring = parse_keyring(file.read_text())
            if len(keyring.master_keys) > 1:
                problem = f"{file} holds {len(keyring.master_keys)} master keys"
                raise UsageError(f"{problem}: complete the rotation with `unveil keys rotate-master`")
            write_keyring_file(file, keyring.with_new_master_key())
    except ValueError as error:
        raise UsageError(f"{file} is not a keyring: {error}") from None
    except RotationIncomplete as error:
        raise CommandFailed(str(error)) from None
    stderr().print(f"master key {keyring.primary_version + 1} was added to {file}")


# --- shared helpers ---


def _wait_for_training(key: Key) -> None:
    from unveil.app.client.progress_bar import progress_bar

    with progress_bar(stderr()) as update_bar:
        key.wait(progress=update_bar)
    if key.status == "cancelled":
        raise CommandFailed(f"{key.id} was cancelled; `unveil keys create` trains a new one")
    if not key.ready:
        raise CommandFailed(f"{key.id} {key.status}: {(key.error or {}).get('detail', 'no reason given')}")


def _print_key(key: Key, as_json: bool, *, id_only: bool = False) -> None:
    if as_json:
        print_json(key.raw)
    elif id_only:
        print(key.id)
    else:
        from rich.table import Column, Table
        from rich.text import Text

        table = Table("field", Column("value", overflow="fold"), show_header=False, box=None)
        for field, value in key.raw.items():
            if value is not None and field != "links":
                table.add_row(Text(field, style="dim"), json.dumps(value) if isinstance(value, dict) else str(value))
        stdout().print(table)


def _read_json_object(path: Path) -> dict[str, Any]:
    try:
        return dict(parse_json(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise UsageError(f"{path} is not a JSON object in the form that `unveil keys export` prints") from None
