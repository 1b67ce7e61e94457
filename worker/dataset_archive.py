"""An uploaded archive becomes a data set: hostile zips refused by member name, images decoded under limits.

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
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from unveil.app.settings import Settings
from unveil.app.storage import Blobs
from unveil.models.core.images import Images
from unveil.models.data.datasets import Data, fit, in_turn, save_npz

SPLITS = ("train", "test")
_LITTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp"})
_SMALL = 2**20  # a member below this may shrink by any ratio: it cannot harm
_TAIL = 22 + 65535 + 20  # the end record with the longest comment, and the zip64 locator before it
_ENTRY_BYTES = 300  # generous for one entry of the directory
_NAME = 200  # letters of a folder's or a file's name

Decode = Callable[[str, bytes], Images]  # (name, bytes) -> uint8 [H, W, 3]; raises BadArchive


class BadArchive(ValueError):
    """The archive is refused; the message names the member and says what to do."""

    code = "bad_archive"


class ArchiveTooLarge(BadArchive):
    code = "archive_too_large"


@dataclass(frozen=True)
class Order:
    name: str
    kind: str  # plain, protected
    size: int
    seed: int


@dataclass(frozen=True)
class Entry:
    """One image of the archive. `split` is None where the archive does not say."""

    member: zipfile.ZipInfo
    split: str | None
    label: str
    key: str  # its path without the suffix: pairs an image with its original


def handle(head: dict[str, Any], blobs: Blobs, settings: Settings, decode: Decode) -> dict[str, Any]:
    """Unpack the blobs that `head` names into the blob `head["blob"]`; what the service then stores in a row.

    A refusal is an answer too: {"refused": {"code", "detail", "field"}}.
    """
    order = Order(name=head["name"], kind=head["kind"], size=head["size"], seed=head["seed"])
    try:
        with blobs.open(head["archive"]) as archive:
            entries = _checked("archive", lambda: read_directory(archive, settings))
            if head["originals"] is None:
                data = _checked("archive", lambda: build(order, archive, entries, settings, decode))
            else:
                with blobs.open(head["originals"]) as originals:
                    data = _with_originals(order, archive, entries, originals, settings, decode)
    except _Refused as refused:
        return {"refused": {"code": refused.reason.code, "detail": str(refused.reason), "field": refused.field}}
    raw = save_npz(data)
    blobs.write(head["blob"], raw)
    return {
        "train": len(data.train),
        "test": len(data.test),
        "width": data.train.shape[2],
        "height": data.train.shape[1],
        "classes": list(data.classes),
        "has_originals": data.train_originals is not None,
        "bytes": len(raw),
    }


class _Refused(Exception):
    def __init__(self, field: str, reason: BadArchive) -> None:
        self.field, self.reason = field, reason


def _checked(field: str, step: Callable[[], Any]) -> Any:
    """Run a step on the upload of one form field; refusals say which."""
    try:
        return step()
    except BadArchive as error:
        raise _Refused(field, error) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, UnicodeError) as error:
        raise _Refused(field, BadArchive(f"the zip is damaged ({error}); make it again and upload it")) from None
    except (NotImplementedError, RuntimeError) as error:  # what zipfile raises on features it lacks
        raise _Refused(field, BadArchive(f"this zip cannot be read: {error}")) from None


# --- the directory ----------------------------------------------------------------------------------------------


def read_directory(archive: BinaryIO, settings: Settings) -> list[Entry]:
    """The images in the archive's directory, in name order, none of them read yet. Raises BadArchive, BadZipFile."""
    _check_directory_size(archive, settings.max_archive_members)
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
    if len(members) > settings.max_archive_members:
        raise ArchiveTooLarge(f"{len(members)} files; at most {settings.max_archive_members} are taken")
    for name, count in Counter(member.filename for member in members).items():
        if count > 1:
            raise BadArchive(f"{name!r} is in the archive {count} times")
    files = [member for member in members if not member.is_dir() and not _is_litter(member.filename)]
    for member in members:
        _check_member(member, settings)
    total = sum(member.file_size for member in files)
    if total > settings.max_unpacked_bytes:
        raise ArchiveTooLarge(f"unpacks to {total} bytes; at most {settings.max_unpacked_bytes} are taken")
    if not files:
        raise BadArchive("the archive holds no images; put them into class folders, below train/ and test/ if you like")
    return _layout(sorted(files, key=lambda member: member.filename))


def _check_directory_size(archive: BinaryIO, most: int) -> None:
    """Before zipfile reads the whole directory into memory: refuse one that is far too large for `most` members."""
    end = archive.seek(0, 2)
    archive.seek(max(0, end - _TAIL))
    tail = archive.read()
    archive.seek(0)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + 22 > len(tail):
        raise BadArchive("this is not a zip file")
    size = struct.unpack_from("<I", tail, at + 12)[0]
    if size == 0xFFFFFFFF or tail[max(0, at - 20) :].startswith(b"PK\6\7"):
        # zip64: the true size stands in a record that the locator points to
        locator = tail[at - 20 : at]
        if len(locator) != 20 or not locator.startswith(b"PK\6\7"):
            raise BadArchive("the zip is damaged (its zip64 locator is missing)")
        archive.seek(min(end, struct.unpack_from("<Q", locator, 8)[0]))
        record = archive.read(56)
        archive.seek(0)
        if len(record) != 56 or not record.startswith(b"PK\6\6"):
            raise BadArchive("the zip is damaged (its zip64 record is missing)")
        size = struct.unpack_from("<Q", record, 40)[0]
    if size > most * _ENTRY_BYTES:
        raise ArchiveTooLarge(f"its directory alone takes {size} bytes; at most {most} files are taken")


def _is_litter(name: str) -> bool:
    """What file managers put into archives unasked."""
    return any(part in _LITTER or (part.startswith(".") and part != "..") for part in PurePosixPath(name).parts)


def _check_member(member: zipfile.ZipInfo, settings: Settings) -> None:
    name = member.filename
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or name[1:2] == ":":
        raise BadArchive(f"{name!r} points outside of the archive; use plain relative names")
    if member.orig_filename != name or any(ord(letter) < 32 for letter in name):
        raise BadArchive(f"{name!r} has control characters in its name")
    if any(len(part) > _NAME for part in path.parts):
        raise BadArchive(f"{name[:_NAME]!r}... has a name of more than {_NAME} letters; shorten it")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise BadArchive(f"{name!r} is a symbolic link; put the file itself there")
    if member.flag_bits & 1:
        raise BadArchive(f"{name!r} is encrypted; upload a zip without a password")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadArchive(f"{name!r} is packed by method {member.compress_type}; only stored and deflated are taken")
    if member.file_size > _SMALL + 4 * settings.max_pixels:  # uncompressed, with alpha
        raise ArchiveTooLarge(f"{name!r} unpacks to {member.file_size} bytes, more than any image that is taken")
    ratio = settings.max_archive_ratio
    if member.file_size > _SMALL and member.file_size > ratio * max(1, member.compress_size):
        raise ArchiveTooLarge(f"{name!r} unpacks to more than {ratio} times its packed size")


def _layout(files: Sequence[zipfile.ZipInfo]) -> list[Entry]:
    """Split and class of every file from its folders: [root/] [train|test/] [class/] name."""
    # Where images belong is read off the images alone: a README.txt among them is the one that is wrong.
    images = [member for member in files if _is_named_as_image(member)] or files
    root = _root([PurePosixPath(member.filename).parts for member in images])

    def below_root(member: zipfile.ZipInfo) -> tuple[str, ...]:
        first, *rest = parts = PurePosixPath(member.filename).parts
        return tuple(rest) if first == root and rest else parts

    paths = [below_root(member) for member in images]
    split = any(parts[0] in SPLITS for parts in paths if len(parts) > 1)
    ((depth, _),) = Counter(map(len, paths)).most_common(1)
    entries = []
    for member in files:
        parts = below_root(member)
        beside = split and parts[0] not in SPLITS
        if beside or len(parts) != depth or depth > 2 + split:
            raise _misplaced(member, beside)
        label = parts[-2] if depth == 2 + split else "unlabelled"
        key = PurePosixPath(*parts).with_suffix("").as_posix()
        entries.append(Entry(member, parts[0] if split else None, label, key))
    return entries


def _root(paths: Sequence[tuple[str, ...]]) -> str | None:
    """The folder that stands above split or class folders, common to all: `zip -r set.zip set`."""
    if len({parts[0] for parts in paths}) > 1 or paths[0][0] in SPLITS:
        return None
    deep = all(len(parts) > 2 for parts in paths) or any(len(parts) > 1 and parts[1] in SPLITS for parts in paths)
    return paths[0][0] if deep else None


def _is_named_as_image(member: zipfile.ZipInfo) -> bool:
    return PurePosixPath(member.filename).suffix.lower() in _SUFFIXES


def _misplaced(member: zipfile.ZipInfo, beside: bool) -> BadArchive:
    if not _is_named_as_image(member):
        return BadArchive(f"{member.filename!r} is no image: remove it")
    if beside:
        return BadArchive(f"{member.filename!r} is neither below train/ nor below test/, as other files are")
    return BadArchive(
        f"{member.filename!r} is not where it should be: every image belongs into a class folder, "
        "CLASS/NAME or train/CLASS/NAME and test/CLASS/NAME"
    )


# --- the images -------------------------------------------------------------------------------------------------


def build(
    order: Order, archive: BinaryIO, entries: Sequence[Entry], settings: Settings, decode: Decode, share: int = 1
) -> Data:
    """Decode every image into its split. `share`: how many such arrays the limit of pixels must hold."""
    train, test = _split(entries, order.seed)
    classes = tuple(sorted({entry.label for entry in entries}))
    with zipfile.ZipFile(archive) as opened:

        def read(entry: Entry) -> Images:
            image = decode(entry.member.filename, opened.read(entry.member))
            return fit(image, order.size) if order.kind == "plain" else image

        first = read(train[0])
        if len(entries) * first.nbytes * share > settings.max_dataset_bytes:
            raise ArchiveTooLarge(
                f"{len(entries)} images of {first.shape[1]}x{first.shape[0]} are more than "
                f"{settings.max_dataset_bytes} bytes of pixels; upload fewer or smaller ones"
            )
        arrays = [_read_all(part, first.shape, train[0], read) for part in (train, test)]
    labels = [_labels(part, classes) for part in (train, test)]
    return Data(order.name, arrays[0], labels[0], arrays[1], labels[1], classes)


def _read_all(
    entries: Sequence[Entry], shape: tuple[int, ...], first: Entry, read: Callable[[Entry], Images]
) -> Images:
    images = np.empty((len(entries), *shape), np.uint8)
    for i, entry in enumerate(entries):
        image = read(entry)
        if image.shape != shape:
            raise BadArchive(
                f"{entry.member.filename!r} is {image.shape[1]}x{image.shape[0]} but {first.member.filename!r} is "
                f"{shape[1]}x{shape[0]}: protected images must share one size"
            )
        images[i] = image
    return images


def _labels(entries: Sequence[Entry], classes: tuple[str, ...]) -> npt.NDArray[np.int64]:
    return np.array([classes.index(entry.label) for entry in entries], np.int64)


def _split(entries: Sequence[Entry], seed: int) -> tuple[list[Entry], list[Entry]]:
    """Train and test as the archive says, classes taken in turn; else shuffled by `seed`, the last fifth for test."""
    if any(entry.split == "test" for entry in entries):
        train, test = ([entry for entry in entries if entry.split == split] for split in SPLITS)
        if not train:
            raise BadArchive("there are images below test/ but none below train/")
        return _in_turn(train), _in_turn(test)
    if len(entries) < 5:
        raise BadArchive(f"an 80/20 split needs at least 5 images, or give a test/ folder; files found: {len(entries)}")
    order = np.random.default_rng(seed).permutation(len(entries))
    cut = len(entries) - len(entries) // 5
    return [entries[i] for i in order[:cut]], [entries[i] for i in order[cut:]]


def _in_turn(entries: Sequence[Entry]) -> list[Entry]:
    classes = sorted({entry.label for entry in entries})
    return [entries[i] for i in in_turn([classes.index(entry.label) for entry in entries])]


def _with_originals(
    order: Order,
    archive: BinaryIO,
    entries: Sequence[Entry],
    originals: BinaryIO,
    settings: Settings,
    decode: Decode,
) -> Data:
    protected_by_key = _checked("archive", lambda: _by_key(entries))
    plain_by_key = _checked("originals", lambda: _by_key(read_directory(originals, settings)))

    def pair() -> list[Entry]:
        """The originals in the order of the protected images, so that both fall into the same split."""
        for key in sorted(protected_by_key.keys() ^ plain_by_key.keys()):
            lacking = "the originals" if key in protected_by_key else "the protected archive"
            raise BadArchive(f"{key!r} is missing from {lacking}: both need the same names")
        return [plain_by_key[entry.key] for entry in entries]

    plain_entries = _checked("originals", pair)
    data: Data = _checked("archive", lambda: build(order, archive, entries, settings, decode, share=2))
    plain: Data = _checked("originals", lambda: build(order, originals, plain_entries, settings, decode, share=2))
    if plain.train.shape != data.train.shape:
        (height, width), (own_height, own_width) = plain.train.shape[1:3], data.train.shape[1:3]
        refusal = BadArchive(f"the originals are {width}x{height} but the protected images {own_width}x{own_height}")
        raise _Refused("originals", refusal)
    return Data(
        order.name, data.train, data.train_labels, data.test, data.test_labels, data.classes,
        train_originals=plain.train, test_originals=plain.test,
    )  # fmt: skip


def _by_key(entries: Sequence[Entry]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.key in found:
            other = found[entry.key].member.filename
            raise BadArchive(f"{entry.member.filename!r} and {other!r} differ in their suffix only: which is the pair?")
        found[entry.key] = entry
    return found
