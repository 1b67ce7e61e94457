"""`unveil encrypt` and `unveil decrypt`.

Beside the protected images lies manifest.json, which says for each the key and the original size: `decrypt` reads it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from unveil.app.cli import completion, references
from unveil.app.cli.common import Json, State, Token, Url, UsageError, connect, print_json, stderr, stdout
from unveil.app.cli.spec_parser import parse_spec
from unveil.app.client.images import Image, read_key_id, to_utf8_name

_MANIFEST = "manifest.json"
_BATCH_SIZE = 16  # small enough that progress is seen, large enough to be quick

Files = Annotated[list[Path], typer.Argument(help="Image files", metavar="IMG...")]
Folder = Annotated[Path, typer.Option("--out", help="Folder for the results")]


def register(app: typer.Typer) -> None:
    app.command()(encrypt)
    app.command()(decrypt)


def encrypt(
    files: Files,
    scheme: Annotated[
        str | None,
        typer.Option(
            help="NAME[:SETTING]..., for example pixelwise:different", autocompletion=completion.complete_schemes
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Id of the key to use (key_...); default: a new key", autocompletion=completion.complete_key),
    ] = None,
    allow_audit_key: Annotated[
        bool, typer.Option(help="Allow a key that was trained for an evaluation, whose seed is not secret")
    ] = False,
    folder: Folder = Path("protected"),
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Encrypt images. Writes NAME.protected.png for each (NAME-2 if that exists) and manifest.json."""
    _check_paths(files, folder)
    _read_manifest(folder)  # it will be added to
    if scheme is None and key is None:
        raise UsageError("give --scheme, or --key with an existing key")
    with connect(url, token, state) as client:
        name: str | None = None
        params: dict[str, Any] = {}
        if scheme is not None:
            name, params = parse_spec(scheme, client.schemes())
            params = references.resolve_settings(client, params)
        if key is not None:
            key = references.key_id(client, key)
        results: list[Image] = []
        for start in _track_batches(files, "encrypting"):
            part = files[start : start + _BATCH_SIZE]
            batch = client.encrypt(part, name, params, key_id=key, allow_audit_key=allow_audit_key)
            results += batch
            if len(batch) > 1 and len(set(batch.key_ids)) == 1:
                key = batch.key_ids[0]  # one key for all: the rest of the files too
    written = _write_images(results, files, folder, "protected")
    _update_manifest(folder, written)
    _print_written(written, as_json)


def decrypt(
    files: Files,
    key: Annotated[
        str | None,
        typer.Option(
            help="Id of the key (key_...); default: the key named by manifest.json beside the image, or by the PNG"
        ),
    ] = None,
    allow_changed: Annotated[
        bool, typer.Option("--allow-changed", help="Decrypt even if an image was changed or belongs to another key")
    ] = False,
    folder: Folder = Path("plain"),
    url: Url = None,
    token: Token = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Decrypt images. Writes NAME.plain.png for each (NAME-2 if that exists)."""
    _check_paths(files, folder)
    images = [_read_protected(file, key) for file in files]
    with connect(url, token, state) as client:
        if key is not None:
            key = references.key_id(client, key)
        results: list[Image] = []
        for start in _track_batches(files, "decrypting"):
            results += client.decrypt(images[start : start + _BATCH_SIZE], key, allow_changed=allow_changed)
    _print_written(_write_images(results, files, folder, "plain"), as_json)


def _track_batches(files: list[Path], task: str) -> Iterable[int]:
    """The first index of each batch, with a progress bar on a terminal."""
    from rich.progress import track

    starts = range(0, len(files), _BATCH_SIZE)
    return track(starts, task, console=stderr(), transient=True) if stderr().is_terminal else starts


def _check_paths(files: list[Path], folder: Path) -> None:
    """Validates files and folder before the first request, so that no response is lost."""
    for file in files:
        if file.is_dir():
            raise UsageError(f"{file} is a folder; give image files")
        if not file.is_file():
            raise UsageError(f"{file}: no such file")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UsageError(f"--out {folder}: {error.strerror}; give a writable folder") from None


def _write_images(images: list[Image], files: list[Path], folder: Path, suffix: str) -> list[dict[str, Any]]:
    """Each image as STEM.WORD.png, with a number if that exists: never overwrites an image."""
    written = []
    for image, file in zip(images, files, strict=True):
        stem = to_utf8_name(file.stem).removesuffix(".protected")
        name, number = f"{stem}.{suffix}.png", 1
        while True:
            try:
                with (folder / name).open("xb") as out_file:
                    out_file.write(image.data)
                break
            except FileExistsError:
                number += 1
                name = f"{stem}-{number}.{suffix}.png"
        written.append({
            "path": str(folder / name), "file": name, "source": to_utf8_name(file.name), "key_id": image.key_id,
            "width": image.width, "height": image.height, "original_width": image.original_width,
            "original_height": image.original_height, "notes": list(image.notes),
        })  # fmt: skip
    return written


def _update_manifest(folder: Path, written: list[dict[str, Any]]) -> None:
    """Add to the manifest of the folder; entries of earlier runs are kept."""
    entries_by_file = {entry["file"]: entry for entry in _read_manifest(folder)}
    entries_by_file |= {entry["file"]: {name: entry[name] for name in entry if name != "path"} for entry in written}
    partial = folder / f"{_MANIFEST}.part"
    partial.write_text(json.dumps({"images": list(entries_by_file.values())}, indent=2) + "\n")
    partial.replace(folder / _MANIFEST)


def _read_protected(file: Path, key: str | None) -> Image | Path:
    """The image with the key and the original size that the manifest beside it names."""
    for entry in _read_manifest(file.parent):
        sizes: dict[str, Any] = {
            name: entry.get(name) for name in ("width", "height", "original_width", "original_height")
        }
        if entry["file"] == file.name and all(isinstance(size, int) for size in sizes.values()):
            return Image(filename=file.name, key_id=str(entry["key_id"]), data=file.read_bytes(), **sizes)
    if key is None and read_key_id(file) is None:
        raise UsageError(f"{file}: neither a {_MANIFEST} beside it nor the file itself names its key; give --key")
    return file


def _read_manifest(folder: Path) -> list[dict[str, Any]]:
    path = folder / _MANIFEST
    if not path.exists():
        return []
    try:
        entries = list(json.loads(path.read_text())["images"])
        if any(not isinstance(entry, dict) or not {"file", "key_id"} <= entry.keys() for entry in entries):
            raise ValueError("not an object")
        return entries
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"{path} is not a manifest that Unveil wrote; choose another --out folder, or give --key"
        ) from None


def _print_written(written: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json({"images": written})
        return
    for entry in written:
        notes = f"  ({'; '.join(entry['notes'])})" if entry["notes"] else ""
        stdout().print(f"{entry['path']}  {entry['key_id']}{notes}", highlight=False, soft_wrap=True)
