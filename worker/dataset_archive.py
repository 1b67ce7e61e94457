"""Build a dataset from an untrusted upload: check every member of a zip, then decode images under limits.

Nothing is ever unpacked to disk: members are read one at a time into one array, and their names are only compared.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import BinaryIO, TypeVar

from unveil.app.rpc.messages import ArchiveReply, ArchiveRequest, Rejection, RequestRejected
from unveil.app.settings import Settings
from unveil.app.storage import BlobStore
from unveil.models.data.decoding import ImageError
from unveil.models.data.formats import is_readable
from unveil.models.data.image_dataset import DatasetUnreadable, ImageDataset
from unveil.models.data.layout import LayoutError, Member, is_labelled, is_litter, place_members
from unveil.models.data.npz import save_npz
from unveil.models.data.reader import DatasetReader, DatasetTooLarge
from unveil.worker.archive_names import member_names
from unveil.worker.array_upload import add_originals, is_array_file, read_array_upload

T = TypeVar("T")

_INLINE_BELOW_BYTES = 2**20  # the limit on the compression ratio does not apply to smaller members
_MAGIC_BYTES = 64
_OTHER_ARCHIVES = {
    b"\x1f\x8b": "gzip file",
    b"BZh": "bzip2 file",
    b"\xfd7zXZ": "xz file",
    b"7z\xbc\xaf": "7z archive",
    b"Rar!": "RAR archive",
}
_MAX_END_RECORD_BYTES = 22 + 65535 + 20  # end record with the longest comment, and a zip64 locator
_MAX_ENTRY_BYTES = 300  # of one entry of the directory
_MAX_NAME_LENGTH = 200  # of a folder or a file


class BadArchive(ValueError):
    """The archive is rejected; the message names the member and says what to do."""

    code = "bad_archive"


class ArchiveTooLarge(BadArchive):
    code = "archive_too_large"


@dataclass(frozen=True)
class Archive:
    """The images of a zip whose directory was checked."""

    file: BinaryIO
    infos: dict[str, zipfile.ZipInfo]  # by the path of the member
    members: list[Member]
    skipped: list[str]


def build_from_upload(request: ArchiveRequest, blobs: BlobStore, settings: Settings) -> ArchiveReply:
    """Unpack the uploaded blobs into the dataset's blob. Raises RequestRejected, naming the form field."""
    with blobs.open(request.archive_blob) as file:
        if is_array_file(file):
            data = _build_from_arrays(request, file, blobs, settings)
            return _store(request, data, data.is_labelled, blobs)
        reconstructed = request.kind == "reconstructed"
        archive = _run_for_field("archive", lambda: read_directory(file, settings, needs_train=not reconstructed))
        if reconstructed:
            tests = _run_for_field("archive", lambda: _reconstructions(archive))
            data = _run_for_field("archive", lambda: _read(request, archive, settings, tests))
        elif request.originals_blob is None:
            data = _run_for_field("archive", lambda: _read(request, archive, settings))
        else:
            with blobs.open(request.originals_blob) as originals:
                data = _read_with_originals(request, archive, originals, settings)
    return _store(request, data, is_labelled(archive.members), blobs)


def _build_from_arrays(request: ArchiveRequest, file: BinaryIO, blobs: BlobStore, settings: Settings) -> ImageDataset:
    if request.kind == "reconstructed":
        reason = "reconstructions are named as the test images are, and a NumPy file has no names: upload a zip"
        raise _rejected("archive", BadArchive.code, reason)
    data = _run_for_field("archive", lambda: read_array_upload(request, file, settings))
    if request.originals_blob is not None:
        with blobs.open(request.originals_blob) as originals_file:
            if not is_array_file(originals_file):
                reason = "`archive` is a NumPy file: give the originals in a NumPy file as well"
                raise _rejected("originals", BadArchive.code, reason)
            plain = _run_for_field("originals", lambda: read_array_upload(request, originals_file, settings))
        data = _run_for_field("originals", lambda: add_originals(data, plain))
    return data


def _store(request: ArchiveRequest, data: ImageDataset, labelled: bool, blobs: BlobStore) -> ArchiveReply:
    def save(file: BinaryIO) -> int:
        save_npz(data, file)
        return file.tell()

    stored_bytes = blobs.write_with(request.dataset_blob, save)
    return ArchiveReply(
        train_count=len(data.train),
        test_count=len(data.test),
        width=data.train.shape[2],
        height=data.train.shape[1],
        classes=list(data.classes),
        has_originals=data.train_originals is not None,
        pixel_bytes=stored_bytes,
        note="; ".join(data.notes),
        labelled=labelled,
    )


def _run_for_field(field: str, step: Callable[[], T]) -> T:
    """Run a step on the upload of one form field, which the rejection names."""
    try:
        return step()
    except BadArchive as error:
        raise _rejected(field, error.code, str(error)) from None
    except (LayoutError, DatasetUnreadable) as error:
        raise _rejected(field, BadArchive.code, str(error)) from None
    except DatasetTooLarge as error:
        raise _rejected(field, ArchiveTooLarge.code, str(error)) from None
    except ImageError as error:
        code = error.code if error.code == "not_exact" else BadArchive.code
        raise _rejected(field, code, error.detail) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, UnicodeError) as error:
        reason = f"the zip is damaged ({error}); create and upload it again"
        raise _rejected(field, BadArchive.code, reason) from None
    except (NotImplementedError, RuntimeError) as error:  # zipfile raises these for features it lacks
        raise _rejected(field, BadArchive.code, f"this zip cannot be read: {error}") from None


def _rejected(field: str, code: str, detail: str) -> RequestRejected:
    return RequestRejected([Rejection(code, f"/{field}", detail)])


# --- the directory ----------------------------------------------------------------------------------------------


def read_directory(file: BinaryIO, settings: Settings, *, needs_train: bool = True) -> Archive:
    """The images of the archive in name order, from its directory alone. Raises BadArchive, BadZipFile, LayoutError."""
    _check_directory_size(file, settings.max_archive_members)
    with zipfile.ZipFile(file) as zip_file:
        infos = zip_file.infolist()
    if len(infos) > settings.max_archive_members:
        raise ArchiveTooLarge(f"{len(infos)} files; the limit is {settings.max_archive_members}")
    names = member_names(infos)
    for name, count in Counter(names).items():
        if count > 1:
            raise BadArchive(f"{name!r} is in the archive {count} times")
    for name, info in zip(names, infos, strict=True):
        _check_member(name, info, settings)
    files = {name: info for name, info in sorted(zip(names, infos, strict=True)) if not name.endswith("/")}
    skipped = [name for name in files if is_litter(name)]
    images = {name: info for name, info in files.items() if not is_litter(name)}
    total = sum(info.file_size for info in images.values())
    if total > settings.max_unpacked_bytes:
        raise ArchiveTooLarge(f"unpacks to {total} bytes; the limit is {settings.max_unpacked_bytes}")
    return Archive(file, images, place_members(list(images), needs_train=needs_train), skipped)


def _check_directory_size(archive: BinaryIO, max_members: int) -> None:
    """Reject a directory that is too large for `max_members`, before zipfile reads it into memory."""
    end = archive.seek(0, 2)
    archive.seek(max(0, end - _MAX_END_RECORD_BYTES))
    tail = archive.read()
    archive.seek(0)
    offset = tail.rfind(b"PK\5\6")
    if offset < 0 or offset + 22 > len(tail):
        raise BadArchive(_describe_no_zip(archive.read(_MAGIC_BYTES)))
    size = struct.unpack_from("<I", tail, offset + 12)[0]
    if size == 0xFFFFFFFF or tail[max(0, offset - 20) :].startswith(b"PK\6\7"):
        # zip64: the locator points to a record that contains the size
        locator = tail[offset - 20 : offset]
        if len(locator) != 20 or not locator.startswith(b"PK\6\7"):
            raise BadArchive("the zip is damaged (its zip64 locator is missing)")
        archive.seek(min(end, struct.unpack_from("<Q", locator, 8)[0]))
        record = archive.read(56)
        archive.seek(0)
        if len(record) != 56 or not record.startswith(b"PK\6\6"):
            raise BadArchive("the zip is damaged (its zip64 record is missing)")
        size = struct.unpack_from("<Q", record, 40)[0]
    if size > max_members * _MAX_ENTRY_BYTES:
        raise ArchiveTooLarge(f"its directory alone takes {size} bytes; the limit is {max_members} files")


def _describe_no_zip(head: bytes) -> str:
    if head.startswith(b"PK\3\4"):
        return "the zip is cut off (its directory is missing); create and upload it again"
    if is_readable(head):
        return "this is a single image; upload a zip file of images"
    kind = next((name for magic, name in _OTHER_ARCHIVES.items() if head.startswith(magic)), None)
    return f"this is a {kind}, not a zip file; pack the images as zip" if kind else "this is not a zip file"


def _check_member(name: str, member: zipfile.ZipInfo, settings: Settings) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or name[1:2] == ":":
        raise BadArchive(f"{name!r} points outside of the archive; use plain relative names")
    if any(ord(letter) < 32 for letter in member.orig_filename):
        raise BadArchive(f"{name!r} has control characters in its name")
    if any(len(part) > _MAX_NAME_LENGTH for part in path.parts):
        raise BadArchive(
            f"{name[:_MAX_NAME_LENGTH]!r}... has a name of more than {_MAX_NAME_LENGTH} letters; shorten it"
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise BadArchive(f"{name!r} is a symbolic link; put the file itself there")
    if member.flag_bits & 1:
        raise BadArchive(f"{name!r} is encrypted; upload a zip without a password")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadArchive(f"{name!r} uses compression method {member.compress_type}; use deflate or none")
    if member.file_size > _INLINE_BELOW_BYTES + 4 * settings.max_pixels:  # uncompressed, with alpha
        raise ArchiveTooLarge(f"{name!r} unpacks to {member.file_size} bytes, more than any image that is taken")
    ratio = settings.max_archive_ratio
    if member.file_size > _INLINE_BELOW_BYTES and member.file_size > ratio * max(1, member.compress_size):
        raise ArchiveTooLarge(f"{name!r} unpacks to more than {ratio} times its packed size")


# --- the images -------------------------------------------------------------------------------------------------


def _read(
    request: ArchiveRequest, archive: Archive, settings: Settings, members: Sequence[Member] | None = None
) -> ImageDataset:
    """Decode every image into its split. members: in place of the archive's, to give originals the same order."""
    size = request.size if request.kind == "plain" else None
    share = 1 if request.originals_blob is None else 2
    with zipfile.ZipFile(archive.file) as zip_file:
        reader = DatasetReader(
            lambda member: zip_file.read(archive.infos[member.path]), size, settings.max_pixels,
            settings.max_dataset_bytes // share,
        )  # fmt: skip
        return reader.read_splits(request.name, members or archive.members, request.seed, archive.skipped)


def _read_with_originals(
    request: ArchiveRequest, archive: Archive, originals_file: BinaryIO, settings: Settings
) -> ImageDataset:
    protected_by_key = _run_for_field("archive", lambda: _index_by_key(archive.members))
    originals = _run_for_field("originals", lambda: read_directory(originals_file, settings))

    def pair_originals() -> list[Member]:
        """The originals in the order and with the places of the protected images, so that both get the same split."""
        plain_by_key = _index_by_key(originals.members)
        protected = protected_by_key
        if protected.keys() != plain_by_key.keys():
            protected, plain_by_key = _without_single_folder(protected), _without_single_folder(plain_by_key)
        for key in sorted(protected.keys() ^ plain_by_key.keys()):
            missing_from = "the originals" if key in protected else "the protected archive"
            raise BadArchive(
                f"{key!r} is missing from {missing_from}: both need the same names; "
                f"the protected archive has {_name_folders(archive)}, the originals have {_name_folders(originals)}"
            )
        paths = {protected[key].path: plain_by_key[key].path for key in protected}
        return [replace(member, path=paths[member.path]) for member in archive.members]

    members = _run_for_field("originals", pair_originals)
    data: ImageDataset = _run_for_field("archive", lambda: _read(request, archive, settings))
    plain: ImageDataset = _run_for_field("originals", lambda: _read(request, originals, settings, members))
    return _run_for_field("originals", lambda: add_originals(data, plain))


def _reconstructions(archive: Archive) -> list[Member]:
    """All images as test images, those below train/ left out: only test images are evaluated."""
    tests = [member for member in archive.members if member.split == "test"]
    members = [replace(member, split="test", key=f"test/{member.name}") for member in tests or archive.members]
    _index_by_key(members)
    return members


def _index_by_key(members: Sequence[Member]) -> dict[str, Member]:
    by_key: dict[str, Member] = {}
    for member in members:
        if member.key in by_key:
            other = by_key[member.key].path
            raise BadArchive(f"{member.path!r} and {other!r} differ in their suffix only: which is the pair?")
        by_key[member.key] = member
    return by_key


def _without_single_folder(by_key: dict[str, Member]) -> dict[str, Member]:
    """By names alone where one folder holds them all, such as protected/ here and originals/ there."""
    if len({PurePosixPath(key).parent for key in by_key}) > 1:
        return by_key
    return {PurePosixPath(key).name: member for key, member in by_key.items()}


def _name_folders(archive: Archive) -> str:
    folders = sorted({str(PurePosixPath(member.path).parent) for member in archive.members} - {"."})
    named = ", ".join(f"{folder}/" for folder in folders[:3])
    return "no folders" if not folders else f"the folders {named}" if len(folders) <= 3 else f"{len(folders)} folders"
