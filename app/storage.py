"""The only door to stored blobs: uploaded archives, network weights, checkpoints (a folder, or S3 by fsspec)."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from unveil.app.observability import failpoints
from unveil.app.settings import Settings
from unveil.models.core.files import replace_file, sync_folder

T = TypeVar("T")


class StorageError(OSError):
    """A disk or an object store does not do its work; the text may be shown to callers."""

    code: ClassVar[str]
    message: ClassVar[str]

    def __init__(self) -> None:
        super().__init__(self.message)


class StorageFullError(StorageError):
    code = "storage_full"
    message = "the service's storage is full; nothing of this was kept. Try again when its operator has made room"


class StorageUnavailableError(StorageError):
    code = "storage_away"
    message = "the service's storage cannot be reached; nothing of this was kept. Try again later"


STORAGE_ERROR_BY_CODE = {kind.code: kind for kind in (StorageFullError, StorageUnavailableError)}
_DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def classify_error(error: Exception) -> StorageError | None:
    """What an error of a disk or of an object store means; None for all others."""
    if isinstance(error, StorageError):
        return error
    if isinstance(error, OSError):
        return StorageFullError() if error.errno in _DISK_FULL_ERRNOS else StorageUnavailableError()
    is_remote_error = type(error).__module__.split(".")[0] in (
        "botocore",
        "aiobotocore",
    )  # known only where s3fs is used
    return StorageUnavailableError() if is_remote_error else None


@contextmanager
def _translate_storage_errors() -> Iterator[None]:
    """Raises StorageError for what went wrong, except FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        storage_error = classify_error(error)
        if storage_error is None:
            raise
        raise storage_error from error


class BlobStore:
    """Every method raises StorageError."""

    def __init__(self, settings: Settings) -> None:
        self._fs, root = fsspec.core.url_to_fs(settings.blob_url, use_listings_cache=False)  # others write too
        self._root = str(root).rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)

    def write(self, name: str, data: bytes) -> None:
        """All or nothing: written aside, synced and renamed on a local disk; one object put elsewhere."""
        self._write_atomically(name, lambda file: file.write(data))

    def write_with(self, name: str, fill: Callable[[BinaryIO], T]) -> T:
        """As `write`, what `fill` writes to the file it is given. Returns its result."""
        return self._write_atomically(name, fill)

    def write_file(self, name: str, source: BinaryIO) -> None:
        """As `write`, from a file of any size, a piece at a time."""
        self._write_atomically(name, lambda file: shutil.copyfileobj(source, file, 2**20))

    @_translate_storage_errors()
    def open(self, name: str) -> BinaryIO:
        """A seekable file to read. Raises FileNotFoundError."""
        file: BinaryIO = self._fs.open(self._path(name), "rb")
        return file

    @_translate_storage_errors()
    def list_folder(self, folder: str) -> list[str]:
        """The names of the blobs right in a folder."""
        path = self._path(folder)
        if not self._fs.exists(path):
            return []
        return [f"{folder}/{str(entry).rsplit('/', 1)[-1]}" for entry in self._fs.ls(path, detail=False)]

    @_translate_storage_errors()
    def list_recursive(self, folder: str) -> list[str]:
        """The names of all blobs in a folder and in its folders."""
        return [str(entry).removeprefix(f"{self._root}/") for entry in self._fs.find(self._path(folder))]

    @_translate_storage_errors()
    def _write_atomically(self, name: str, fill: Callable[[Any], T]) -> T:
        path = self._path(name)
        if not self._local:
            upload = self._fs.open(path, "wb", autocommit=False)
            try:
                result = fill(upload)
                upload.close()
            except BaseException:
                upload.discard()
                upload.closed = True  # else the end of its life would begin it anew
                raise
            upload.commit()
            return result
        target = Path(path)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replace_file(target) as file:
            result = fill(file)
            failpoints.failpoint("blob-before-rename")
        failpoints.failpoint("blob-renamed")
        sync_folder(target.parent)
        return result

    @_translate_storage_errors()
    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""
        data: Any = self._fs.cat_file(self._path(name))
        return bytes(data)

    @_translate_storage_errors()
    def exists(self, name: str) -> bool:
        return bool(self._fs.exists(self._path(name)))

    @_translate_storage_errors()
    def delete(self, name: str) -> None:
        """Deleting what is not there is no error: a delete may be repeated after a crash, and others delete too."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    @_translate_storage_errors()
    def delete_folder(self, name: str) -> None:
        """With all that is in it; it may be gone already."""
        with suppress(FileNotFoundError):  # also where somebody else deletes it
            self._fs.rm(self._path(name), recursive=True)

    def free_bytes(self) -> int | None:
        """Bytes that can still be written; None if the store is not on a local disk. Raises OSError."""
        if not self._local:
            return None
        root = Path(self._root)
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(root, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "cannot be written", str(root))
        return shutil.disk_usage(root).free

    def _path(self, name: str) -> str:
        if not name or any(part in ("", ".", "..") for part in name.split("/")):
            raise ValueError(f"not a blob name: {name!r}")
        return f"{self._root}/{name}"
