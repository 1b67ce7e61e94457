"""`unveil datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unveil.app.cli import completion
from unveil.app.cli.common import (
    Json,
    State,
    Token,
    Url,
    UsageError,
    connect,
    make_table,
    print_json,
    stacked,
    stderr,
    stdout,
)

datasets = typer.Typer(help="List, upload and delete datasets.", no_args_is_help=True)

DatasetId = Annotated[str, typer.Argument(help="ds_...", metavar="DS", autocompletion=completion.complete_dataset)]


def register(app: typer.Typer) -> None:
    app.add_typer(datasets, name="datasets")


@datasets.command("list")
def list_datasets(url: Url = None, token: Token = None, state: State = None, as_json: Json = False) -> None:
    """Built-in datasets, the operator's folders and your uploads."""
    with connect(url, token, state) as client:
        items = list(client.datasets.list())
    if as_json:
        print_json(items)
        return
    table = make_table("id", "train", "test", "size", "classes", wraps=["id"])
    for item in items:
        description = stacked(
            item["id"], item["kind"] if item["name"] == item["id"] else f"{item['name']}, {item['kind']}"
        )
        counts = str(item["train"]), str(item["test"]), f"{item['width']}x{item['height']}", str(len(item["classes"]))
        table.add_row(description, *counts, style="" if item["available"] else "dim")
    stdout.print(table)
    for item in items:
        if not item["available"]:
            stdout.print(f"{item['id']} is not here: {item['note']}", style="dim", highlight=False, soft_wrap=True)


@datasets.command()
def upload(
    archive: Annotated[
        Path, typer.Argument(help="zip or folder: train/ and, if there is one, test/, with class folders below")
    ],
    name: Annotated[str | None, typer.Option(help="Else the file's name")] = None,
    protected: Annotated[
        bool, typer.Option("--protected", help="The images are encrypted by a scheme of yours")
    ] = False,
    originals: Annotated[
        Path | None, typer.Option(help="zip or folder with the plain images under the same names")
    ] = None,
    size: Annotated[int, typer.Option(help="Side of plain images in pixels")] = 96,
    seed: Annotated[int, typer.Option(help="Of the 80/20 split of an archive without test/")] = 0,
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Upload a zip or a folder of images; prints the dataset's id."""
    for path in (archive, originals):
        if path is not None and not path.exists():
            raise UsageError(f"{path}: there is no such file or folder")
    with connect(url, token, state) as client, stderr.status("uploading and unpacking"):
        dataset = client.datasets.upload(
            archive, name, kind="protected" if protected else "plain", originals=originals, size=size, seed=seed
        )
    if as_json:
        print_json(dataset)
    else:
        print(dataset["id"])


@datasets.command()
def delete(id: DatasetId, url: Url = None, token: Token = None, state: State = None) -> None:
    """Delete an upload."""
    with connect(url, token, state) as client:
        client.datasets.delete(id)
