"""The only door to stored blobs: uploaded archives, network weights, checkpoints (a folder, or S3 by fsspec)."""

from __future__ import annotations

import os
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from app.settings import Settings


class Blobs:
    def __init__(self, settings: Settings) -> None:
        self._fs, root = fsspec.core.url_to_fs(settings.blob_url)
        self._root = str(root).rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)

    def write(self, name: str, data: bytes) -> None:
        """All or nothing: written aside, synced and renamed on a local disk; one object put elsewhere."""
        path = self._path(name)
        if not self._local:
            self._fs.pipe_file(path, data)
            return
        folder = os.path.dirname(path)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        aside = f"{path}.{os.getpid()}.part"
        try:
            with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        except BaseException:
            if os.path.exists(aside):
                os.unlink(aside)
            raise
        directory = os.open(folder, os.O_RDONLY)
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

    def _path(self, name: str) -> str:
        if not name or any(part in ("", ".", "..") for part in name.split("/")):
            raise ValueError(f"not a blob name: {name!r}")
        return f"{self._root}/{name}"
