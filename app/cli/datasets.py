"""`unveil datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from unveil.app.cli import completion, references
from unveil.app.cli.common import (
    Json,
    State,
    Token,
    Url,
    UsageError,
    connect,
    print_items,
    print_result,
    stacked,
    stderr,
    stdout,
)
from unveil.app.cli.groups import CommandGroup

datasets = CommandGroup(help="List, upload and delete datasets.")

DatasetId = Annotated[
    str,
    typer.Argument(
        help="Id (ds_...) or a prefix of it, name, or latest", metavar="DS", autocompletion=completion.complete_dataset
    ),
]


def register(app: typer.Typer) -> None:
    app.add_typer(datasets, name="datasets")


@datasets.command("list")
def list_datasets(url: Url = None, token: Token = None, state: State = None, as_json: Json = False) -> None:
    """List built-in datasets, the operator's folders and your uploads."""
    with connect(url, token, state) as client:
        items = list(client.datasets.list())
    from rich.styled import Styled

    rows = []
    for item in items:
        kind = item["kind"] if item["name"] == item["id"] else f"{item['name']}, {item['kind']}"
        counts = str(item["train"]), str(item["test"]), f"{item['width']}x{item['height']}", str(len(item["classes"]))
        style = "" if item["available"] else "dim"
        rows.append([Styled(cell, style) for cell in (stacked(item["id"], kind), *counts)])
    print_items(as_json, items, ("id", "train", "test", "size", "classes"), rows, ["id"])
    for item in items:
        if not item["available"] and not as_json:
            stdout().print(
                f"{item['id']} is not available: {item['note']}", style="dim", highlight=False, soft_wrap=True
            )


@datasets.command()
def upload(
    archive: Annotated[
        Path,
        typer.Argument(
            help="A zip file or folder with class folders, optionally below train/ and test/; or a .npy or .npz file"
        ),
    ],
    name: Annotated[str | None, typer.Option(help="Name of the dataset; default: the file name")] = None,
    protected: Annotated[
        bool, typer.Option("--protected", help="The images are ciphertexts of your own scheme")
    ] = False,
    reconstructed: Annotated[
        bool,
        typer.Option(
            "--reconstructed",
            help="The images are the output of your own attack; file names match those of the test images",
        ),
    ] = False,
    originals: Annotated[
        Path | None,
        typer.Option(
            help="Plain images of the ciphertexts: a zip file or folder with the same file names, or a NumPy file in "
            "the same order"
        ),
    ] = None,
    size: Annotated[int, typer.Option(help="Plain images are resized to this side in pixels")] = 96,
    seed: Annotated[
        int, typer.Option(help="Seed of the 80/20 split into training and test, for an archive without test/")
    ] = 0,
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Upload a zip file, a folder or a NumPy file of images, and print the id of the dataset."""
    if protected and reconstructed:
        raise UsageError("--protected and --reconstructed exclude each other")
    kind: Literal["plain", "protected", "reconstructed"] = (
        "protected" if protected else "reconstructed" if reconstructed else "plain"
    )
    for path in (archive, originals):
        if path is not None and not path.exists():
            raise UsageError(f"{path}: no such file or folder")
    with connect(url, token, state) as client, stderr().status("uploading and unpacking"):
        dataset = client.datasets.upload(archive, name, kind=kind, originals=originals, size=size, seed=seed)
    print_result(as_json, dataset, dataset["id"])


@datasets.command()
def delete(id: DatasetId, url: Url = None, token: Token = None, state: State = None) -> None:
    """Delete an uploaded dataset."""
    with connect(url, token, state) as client:
        client.datasets.delete(references.dataset_id(client, id))
