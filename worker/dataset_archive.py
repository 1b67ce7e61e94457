"""Build a dataset from an untrusted zip: check every member of the directory, then decode images under limits.

Nothing is ever unpacked to disk: members are read one at a time into one array, and their names are only compared.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from unveil.app.rpc.messages import ArchiveReply, ArchiveRequest, Rejection, RequestRejected
from unveil.app.settings import Settings
from unveil.app.storage import BlobStore
from unveil.models.core.images import Images
from unveil.models.data.image_dataset import ImageDataset, interleave_classes
from unveil.models.data.image_files import center_crop_resize
from unveil.models.data.npz import save_npz

T = TypeVar("T")

SPLITS = ("train", "test")
_IGNORED_NAMES = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp"})
_INLINE_BELOW_BYTES = 2**20  # the limit on the compression ratio does not apply to smaller members
_MAX_END_RECORD_BYTES = 22 + 65535 + 20  # end record with the longest comment, and a zip64 locator
_MAX_ENTRY_BYTES = 300  # of one entry of the directory
_MAX_NAME_LENGTH = 200  # of a folder or a file

ImageDecoder = Callable[[str, bytes], Images]  # (name, bytes) -> uint8 [H, W, 3]; raises BadArchive


class BadArchive(ValueError):
    """The archive is rejected; the message names the member and says what to do."""

    code = "bad_archive"


class ArchiveTooLarge(BadArchive):
    code = "archive_too_large"


@dataclass(frozen=True)
class ArchiveMember:
    """One image of the archive. `split` is None if the archive has no train/ and test/ folders."""

    info: zipfile.ZipInfo
    split: str | None
    label: str
    key: str  # its path without the suffix: pairs an image with its original


def build_from_upload(
    request: ArchiveRequest, blobs: BlobStore, settings: Settings, decode: ImageDecoder
) -> ArchiveReply:
    """Unpack the uploaded blobs into the dataset's blob. Raises RequestRejected, naming the form field."""
    with blobs.open(request.archive_blob) as archive:
        entries = _run_for_field("archive", lambda: read_directory(archive, settings))
        if request.originals_blob is None:
            data = _run_for_field("archive", lambda: build_dataset(request, archive, entries, settings, decode))
        else:
            with blobs.open(request.originals_blob) as originals:
                data = _build_with_originals(request, archive, entries, originals, settings, decode)
    npz = save_npz(data)
    blobs.write(request.dataset_blob, npz)
    return ArchiveReply(
        train_count=len(data.train),
        test_count=len(data.test),
        width=data.train.shape[2],
        height=data.train.shape[1],
        classes=list(data.classes),
        has_originals=data.train_originals is not None,
        pixel_bytes=len(npz),
    )


def _run_for_field(field: str, step: Callable[[], T]) -> T:
    """Run a step on the upload of one form field, which the rejection names."""
    try:
        return step()
    except BadArchive as error:
        raise _rejected(field, error) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, UnicodeError) as error:
        raise _rejected(field, BadArchive(f"the zip is damaged ({error}); create and upload it again")) from None
    except (NotImplementedError, RuntimeError) as error:  # zipfile raises these for features it lacks
        raise _rejected(field, BadArchive(f"this zip cannot be read: {error}")) from None


def _rejected(field: str, error: BadArchive) -> RequestRejected:
    return RequestRejected([Rejection(error.code, f"/{field}", str(error))])


# --- the directory ----------------------------------------------------------------------------------------------


def read_directory(archive: BinaryIO, settings: Settings) -> list[ArchiveMember]:
    """The images of the archive in name order, from its directory alone. Raises BadArchive, BadZipFile."""
    _check_directory_size(archive, settings.max_archive_members)
    with zipfile.ZipFile(archive) as zip_file:
        members = zip_file.infolist()
    if len(members) > settings.max_archive_members:
        raise ArchiveTooLarge(f"{len(members)} files; the limit is {settings.max_archive_members}")
    for name, count in Counter(member.filename for member in members).items():
        if count > 1:
            raise BadArchive(f"{name!r} is in the archive {count} times")
    files = [member for member in members if not member.is_dir() and not _is_ignored(member.filename)]
    for member in members:
        _check_member(member, settings)
    total = sum(member.file_size for member in files)
    if total > settings.max_unpacked_bytes:
        raise ArchiveTooLarge(f"unpacks to {total} bytes; the limit is {settings.max_unpacked_bytes}")
    if not files:
        raise BadArchive("the archive holds no images; put them into class folders, below train/ and test/ if you like")
    return _assign_splits(sorted(files, key=lambda member: member.filename))


def _check_directory_size(archive: BinaryIO, max_members: int) -> None:
    """Reject a directory that is too large for `max_members`, before zipfile reads it into memory."""
    end = archive.seek(0, 2)
    archive.seek(max(0, end - _MAX_END_RECORD_BYTES))
    tail = archive.read()
    archive.seek(0)
    offset = tail.rfind(b"PK\5\6")
    if offset < 0 or offset + 22 > len(tail):
        raise BadArchive("this is not a zip file")
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


def _is_ignored(name: str) -> bool:
    """Files that file managers add."""
    return any(part in _IGNORED_NAMES or (part.startswith(".") and part != "..") for part in PurePosixPath(name).parts)


def _check_member(member: zipfile.ZipInfo, settings: Settings) -> None:
    name = member.filename
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or name[1:2] == ":":
        raise BadArchive(f"{name!r} points outside of the archive; use plain relative names")
    if member.orig_filename != name or any(ord(letter) < 32 for letter in name):
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


def _assign_splits(files: Sequence[zipfile.ZipInfo]) -> list[ArchiveMember]:
    """Split and class of every file from its folders: [root/] [train|test/] [class/] name."""
    # Derive the layout from the images alone, so that an error names a README.txt among them.
    images = [member for member in files if _is_named_as_image(member)] or files
    root = _common_root([PurePosixPath(member.filename).parts for member in images])

    def strip_root(member: zipfile.ZipInfo) -> tuple[str, ...]:
        first, *rest = parts = PurePosixPath(member.filename).parts
        return tuple(rest) if first == root and rest else parts

    paths = [strip_root(member) for member in images]
    split = any(parts[0] in SPLITS for parts in paths if len(parts) > 1)
    ((depth, _),) = Counter(map(len, paths)).most_common(1)
    entries = []
    for member in files:
        parts = strip_root(member)
        outside_splits = split and parts[0] not in SPLITS
        if outside_splits or len(parts) != depth or depth > 2 + split:
            raise _misplaced_error(member, outside_splits)
        label = parts[-2] if depth == 2 + split else "unlabelled"
        key = PurePosixPath(*parts).with_suffix("").as_posix()
        entries.append(ArchiveMember(member, parts[0] if split else None, label, key))
    return entries


def _common_root(paths: Sequence[tuple[str, ...]]) -> str | None:
    """A single folder above the split or class folders, as `zip -r set.zip set` creates it."""
    if len({parts[0] for parts in paths}) > 1 or paths[0][0] in SPLITS:
        return None
    deep = all(len(parts) > 2 for parts in paths) or any(len(parts) > 1 and parts[1] in SPLITS for parts in paths)
    return paths[0][0] if deep else None


def _is_named_as_image(member: zipfile.ZipInfo) -> bool:
    return PurePosixPath(member.filename).suffix.lower() in _SUFFIXES


def _misplaced_error(member: zipfile.ZipInfo, outside_splits: bool) -> BadArchive:
    if not _is_named_as_image(member):
        return BadArchive(f"{member.filename!r} is not an image: remove it")
    if outside_splits:
        return BadArchive(f"{member.filename!r} is neither below train/ nor below test/, as other files are")
    return BadArchive(
        f"{member.filename!r} is not where it should be: every image belongs into a class folder, "
        "CLASS/NAME or train/CLASS/NAME and test/CLASS/NAME"
    )


# --- the images -------------------------------------------------------------------------------------------------


def build_dataset(
    request: ArchiveRequest,
    archive: BinaryIO,
    entries: Sequence[ArchiveMember],
    settings: Settings,
    decode: ImageDecoder,
    array_count: int = 1,
) -> ImageDataset:
    """Decode every image into its split. `share`: number of such arrays that share the limit of bytes."""
    train, test = _split_train_test(entries, request.seed)
    classes = tuple(sorted({entry.label for entry in entries}))
    with zipfile.ZipFile(archive) as zip_file:

        def decode_member(entry: ArchiveMember) -> Images:
            image = decode(entry.info.filename, zip_file.read(entry.info))
            return center_crop_resize(image, request.size) if request.kind == "plain" else image

        first_image = decode_member(train[0])
        if len(entries) * first_image.nbytes * array_count > settings.max_dataset_bytes:
            raise ArchiveTooLarge(
                f"{len(entries)} images of {first_image.shape[1]}x{first_image.shape[0]} are more than "
                f"{settings.max_dataset_bytes} bytes of pixels; upload fewer or smaller ones"
            )
        arrays = [_decode_all(part, first_image.shape, train[0], decode_member) for part in (train, test)]
    labels = [_label_indices(part, classes) for part in (train, test)]
    return ImageDataset(request.name, arrays[0], labels[0], arrays[1], labels[1], classes)


def _decode_all(
    entries: Sequence[ArchiveMember],
    shape: tuple[int, ...],
    first: ArchiveMember,
    decode_member: Callable[[ArchiveMember], Images],
) -> Images:
    images = np.empty((len(entries), *shape), np.uint8)
    for i, entry in enumerate(entries):
        image = decode_member(entry)
        if image.shape != shape:
            raise BadArchive(
                f"{entry.info.filename!r} is {image.shape[1]}x{image.shape[0]} but {first.info.filename!r} is "
                f"{shape[1]}x{shape[0]}: protected images must share one size"
            )
        images[i] = image
    return images


def _label_indices(entries: Sequence[ArchiveMember], classes: tuple[str, ...]) -> npt.NDArray[np.int64]:
    return np.array([classes.index(entry.label) for entry in entries], np.int64)


def _split_train_test(entries: Sequence[ArchiveMember], seed: int) -> tuple[list[ArchiveMember], list[ArchiveMember]]:
    """The splits of the archive with classes interleaved, else 80/20 after a shuffle with `seed`."""
    if any(entry.split == "test" for entry in entries):
        train, test = ([entry for entry in entries if entry.split == split] for split in SPLITS)
        if not train:
            raise BadArchive("there are images below test/ but none below train/")
        return _interleave_classes(train), _interleave_classes(test)
    if len(entries) < 5:
        raise BadArchive(f"an 80/20 split needs at least 5 images, or give a test/ folder; files found: {len(entries)}")
    order = np.random.default_rng(seed).permutation(len(entries))
    cut = len(entries) - len(entries) // 5
    return [entries[i] for i in order[:cut]], [entries[i] for i in order[cut:]]


def _interleave_classes(entries: Sequence[ArchiveMember]) -> list[ArchiveMember]:
    classes = sorted({entry.label for entry in entries})
    return [entries[i] for i in interleave_classes([classes.index(entry.label) for entry in entries])]


def _build_with_originals(
    request: ArchiveRequest,
    archive: BinaryIO,
    entries: Sequence[ArchiveMember],
    originals: BinaryIO,
    settings: Settings,
    decode: ImageDecoder,
) -> ImageDataset:
    protected_by_key = _run_for_field("archive", lambda: _index_by_key(entries))
    plain_by_key = _run_for_field("originals", lambda: _index_by_key(read_directory(originals, settings)))

    def pair_originals() -> list[ArchiveMember]:
        """The originals in the order of the protected images, so that both get the same split."""
        for key in sorted(protected_by_key.keys() ^ plain_by_key.keys()):
            missing_from = "the originals" if key in protected_by_key else "the protected archive"
            raise BadArchive(f"{key!r} is missing from {missing_from}: both need the same names")
        return [plain_by_key[entry.key] for entry in entries]

    plain_entries = _run_for_field("originals", pair_originals)
    data: ImageDataset = _run_for_field(
        "archive", lambda: build_dataset(request, archive, entries, settings, decode, array_count=2)
    )
    plain: ImageDataset = _run_for_field(
        "originals", lambda: build_dataset(request, originals, plain_entries, settings, decode, array_count=2)
    )
    if plain.train.shape != data.train.shape:
        (height, width), (own_height, own_width) = plain.train.shape[1:3], data.train.shape[1:3]
        reason = BadArchive(f"the originals are {width}x{height} but the protected images {own_width}x{own_height}")
        raise _rejected("originals", reason)
    return ImageDataset(
        request.name, data.train, data.train_labels, data.test, data.test_labels, data.classes,
        train_originals=plain.train, test_originals=plain.test,
    )  # fmt: skip


def _index_by_key(entries: Sequence[ArchiveMember]) -> dict[str, ArchiveMember]:
    members: dict[str, ArchiveMember] = {}
    for entry in entries:
        if entry.key in members:
            other = members[entry.key].info.filename
            raise BadArchive(f"{entry.info.filename!r} and {other!r} differ in their suffix only: which is the pair?")
        members[entry.key] = entry
    return members
