"""The only door to stored blobs: uploaded archives, network weights, checkpoints (a folder, or S3 by fsspec)."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from unveil.app.observability import failpoints
from unveil.app.settings import Settings


class StorageFailed(OSError):
    """A disk or an object store does not do its work; the text may be shown to callers."""

    code: ClassVar[str]
    says: ClassVar[str]

    def __init__(self) -> None:
        super().__init__(self.says)


class StorageFull(StorageFailed):
    code = "storage_full"
    says = "the service's storage is full; nothing of this was kept. Try again when its operator has made room"


class StorageAway(StorageFailed):
    code = "storage_away"
    says = "the service's storage cannot be reached; nothing of this was kept. Try again later"


FAILURES = {kind.code: kind for kind in (StorageFull, StorageAway)}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def failure(error: Exception) -> StorageFailed | None:
    """What an error of a disk or of an object store means; None for all others."""
    if isinstance(error, StorageFailed):
        return error
    if isinstance(error, OSError):
        return StorageFull() if error.errno in _FULL else StorageAway()
    is_remote = type(error).__module__.split(".")[0] in ("botocore", "aiobotocore")  # known only where s3fs is used
    return StorageAway() if is_remote else None


@contextmanager
def _telling() -> Iterator[None]:
    """Raises StorageFailed for what went wrong, except FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        failed = failure(error)
        if failed is None:
            raise
        raise failed from error


class Blobs:
    """Every method raises StorageFull or StorageAway."""

    def __init__(self, settings: Settings) -> None:
        self._fs, root = fsspec.core.url_to_fs(settings.blob_url, use_listings_cache=False)  # others write too
        self._root = str(root).rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)

    def write(self, name: str, data: bytes) -> None:
        """All or nothing: written aside, synced and renamed on a local disk; one object put elsewhere."""
        self._store(name, lambda file: file.write(data))

    def save(self, name: str, source: BinaryIO) -> None:
        """As `write`, from a file of any size, a piece at a time."""
        self._store(name, lambda file: shutil.copyfileobj(source, file, 2**20))

    @_telling()
    def open(self, name: str) -> BinaryIO:
        """A seekable file to read. Raises FileNotFoundError."""
        file: BinaryIO = self._fs.open(self._path(name), "rb")
        return file

    @_telling()
    def names(self, folder: str) -> list[str]:
        """The names of the blobs right in a folder."""
        path = self._path(folder)
        if not self._fs.exists(path):
            return []
        return [f"{folder}/{str(found).rsplit('/', 1)[-1]}" for found in self._fs.ls(path, detail=False)]

    @_telling()
    def below(self, folder: str) -> list[str]:
        """The names of all blobs in a folder and in its folders."""
        return [str(found).removeprefix(f"{self._root}/") for found in self._fs.find(self._path(folder))]

    @_telling()
    def _store(self, name: str, fill: Callable[[Any], object]) -> None:
        path = self._path(name)
        if not self._local:
            upload = self._fs.open(path, "wb", autocommit=False)
            try:
                fill(upload)
                upload.close()
            except BaseException:
                upload.discard()
                upload.closed = True  # else the end of its life would begin it anew
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
            failpoints.point("blob-before-rename")
            aside.replace(target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        failpoints.point("blob-renamed")
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @_telling()
    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""
        data: Any = self._fs.cat_file(self._path(name))
        return bytes(data)

    @_telling()
    def exists(self, name: str) -> bool:
        return bool(self._fs.exists(self._path(name)))

    @_telling()
    def delete(self, name: str) -> None:
        """Deleting what is not there is no error: a delete may be repeated after a crash, and others delete too."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    @_telling()
    def delete_folder(self, name: str) -> None:
        """With all that is in it; it may be gone already."""
        with suppress(FileNotFoundError):  # also where somebody else deletes it
            self._fs.rm(self._path(name), recursive=True)

    def free(self) -> int | None:
        """Bytes that can still be written; None where that is not a disk of ours. Raises OSError."""
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
