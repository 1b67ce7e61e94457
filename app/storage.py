"""The only door to stored blobs: uploaded archives, network weights, checkpoints (a folder, or S3 by fsspec)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from app.settings import Settings
from models import crash


class Blobs:
    def __init__(self, settings: Settings) -> None:
        self._fs, root = fsspec.core.url_to_fs(settings.blob_url)
        self._root = str(root).rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)

    def write(self, name: str, data: bytes) -> None:
        """All or nothing: written aside, synced and renamed on a local disk; one object put elsewhere."""
        self._store(name, lambda file: file.write(data))

    def save(self, name: str, source: BinaryIO) -> None:
        """As `write`, from a file of any size, a piece at a time."""
        self._store(name, lambda file: shutil.copyfileobj(source, file, 2**20))

    def open(self, name: str) -> BinaryIO:
        """A seekable file to read. Raises FileNotFoundError."""
        file: BinaryIO = self._fs.open(self._path(name), "rb")
        return file

    def names(self, folder: str) -> Iterator[str]:
        """The names of the blobs right in a folder."""
        path = self._path(folder)
        if self._fs.exists(path):
            for found in self._fs.ls(path, detail=False, refresh=True):
                yield f"{folder}/{str(found).rsplit('/', 1)[-1]}"

    def _store(self, name: str, fill: Callable[[Any], object]) -> None:
        path = self._path(name)
        if not self._local:
            upload = self._fs.open(path, "wb", autocommit=False)
            try:
                fill(upload)
                upload.close()
            except BaseException:
                upload.discard()
                raise
            upload.commit()
            return
        target = Path(path)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            crash.point("blob-before-rename")
            aside.replace(target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        crash.point("blob-renamed")
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""
        data: Any = self._fs.cat_file(self._path(name))
        return bytes(data)

    def exists(self, name: str) -> bool:
        return bool(self._fs.exists(self._path(name)))

    def delete(self, name: str) -> None:
        """Deleting what is not there is no error: a delete may be repeated after a crash."""
        if self._fs.exists(self._path(name)):
            self._fs.rm_file(self._path(name))

    def folder(self, name: str) -> Path | None:
        """A folder for files that grow in place, made where it is missing; None where blobs are not on this disk."""
        if not self._local:
            return None
        path = Path(self._path(name))
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def drop_folder(self, name: str) -> None:
        """Delete a folder and what is in it; it may be gone already."""
        if self._local:
            shutil.rmtree(self._path(name), ignore_errors=True)

    def _path(self, name: str) -> str:
        if not name or any(part in ("", ".", "..") for part in name.split("/")):
            raise ValueError(f"not a blob name: {name!r}")
        return f"{self._root}/{name}"
