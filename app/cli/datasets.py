"""`unveil datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from app.cli.common import Json, Misused, State, Token, Url, connect, errors, out, print_json

datasets = typer.Typer(help="List, upload and delete datasets.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(datasets, name="datasets")


@datasets.command("list")
def list_datasets(url: Url = None, token: Token = None, state: State = None, as_json: Json = False) -> None:
    """Built-in datasets, the operator's folders and your uploads."""
    with connect(url, token, state) as client:
        found = list(client.datasets.list())
    if as_json:
        print_json(found)
        return
    table = Table("id", "name", "kind", "train", "test", "size", "classes", "note")
    for item in found:
        size = f"{item['width']}x{item['height']}"
        note = "" if item["available"] else f"not here: {item['note']}"
        table.add_row(
            item["id"], item["name"], item["kind"], str(item["train"]), str(item["test"]), size,
            str(len(item["classes"])), note,
        )  # fmt: skip
    out.print(table)


@datasets.command()
def upload(
    archive: Annotated[Path, typer.Argument(help="zip: train/ and, if there is one, test/, class folders below")],
    name: Annotated[str | None, typer.Option(help="Else the file's name")] = None,
    protected: Annotated[
        bool, typer.Option("--protected", help="The images are encrypted by a scheme of yours")
    ] = False,
    originals: Annotated[Path | None, typer.Option(help="zip with the plain images under the same names")] = None,
    size: Annotated[int, typer.Option(help="Side of plain images in pixels")] = 96,
    seed: Annotated[int, typer.Option(help="Of the 80/20 split of an archive without test/")] = 0,
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Upload a zip of images; prints the dataset's id."""
    for path in (archive, originals):
        if path is not None and not path.is_file():
            raise Misused(f"{path}: there is no such file")
    with connect(url, token, state) as client, errors.status("uploading and unpacking"):
        made = client.datasets.upload(
            archive, name, kind="protected" if protected else "plain", originals=originals, size=size, seed=seed
        )
    if as_json:
        print_json(made)
    else:
        print(made["id"])


@datasets.command()
def delete(id: str, url: Url = None, token: Token = None, state: State = None) -> None:
    """Delete an upload."""
    with connect(url, token, state) as client:
        client.datasets.delete(id)
