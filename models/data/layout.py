"""Where the images of a dataset lie: split and class of every file, from its path alone.

The layouts are [root/] [train|test/] [class/] name; docs/how-to/datasets.md describes them. Folders and archives share
them.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from unveil.models.data.image_dataset import Split

IMAGE_SUFFIXES = frozenset({
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif",
    ".heic", ".heif", ".pgm", ".ppm", ".pnm", ".pbm",
})  # fmt: skip
UNLABELLED = "unlabelled"
_SPLIT_BY_NAME: dict[str, Split] = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_VALIDATION_NAMES = frozenset({"val", "valid", "validation"})
# What file managers and operating systems leave behind.
_LITTER_NAMES = frozenset({
    "__macosx", "thumbs.db", "desktop.ini", ".ds_store", ".trashes", ".spotlight-v100", ".fseventsd", "@eadir",
    ".ipynb_checkpoints",
})  # fmt: skip
_MAX_NAMED_FILES = 3


class LayoutError(ValueError):
    """The files are not a dataset; the message names the first file that does not fit and says what to do."""


@dataclass(frozen=True)
class Member:
    """One image of a dataset."""

    path: str  # as the folder or the archive names it
    split: Split | None  # None without train/ and test/
    label: str
    key: str  # its place without the suffix: pairs an image with its original

    @property
    def name(self) -> str:
        """The key without the folder of the split."""
        return self.key.partition("/")[2] if self.split else self.key


def is_litter(path: str) -> bool:
    parts = PurePosixPath(path).parts
    hidden = parts[-1].startswith(".") and PurePosixPath(path).suffix.lower() not in IMAGE_SUFFIXES
    return parts[-1].startswith("._") or hidden or any(part.lower() in _LITTER_NAMES for part in parts)


def is_named_as_image(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def place_members(paths: Sequence[str], *, needs_train: bool = True) -> list[Member]:
    """Split and class of every file, in the order of the paths. Raises LayoutError.

    needs_train: test images alone are no dataset.
    """
    # Derive the layout from the images alone, so that an error names a README.txt among them.
    images = [path for path in paths if is_named_as_image(path)] or list(paths)
    if not images:
        raise LayoutError("there are no images; put them into class folders, below train/ and test/ if you like")
    splits = _split_names([_parts(path) for path in images])
    root = _common_root([_parts(path) for path in images], splits)

    def strip_root(path: str) -> tuple[str, ...]:
        parts = _parts(path)
        return parts[len(root) :] if parts[: len(root)] == root and len(parts) > len(root) else parts

    placed = [strip_root(path) for path in images]
    has_splits = any(parts[0].lower() in splits for parts in placed if len(parts) > 1)
    ((depth, _),) = Counter(map(len, placed)).most_common(1)
    members = []
    for path in paths:
        parts = strip_root(path)
        split = splits.get(parts[0].lower()) if has_splits else None
        outside_splits = has_splits and split is None
        if outside_splits or len(parts) != depth or depth > 2 + has_splits:
            raise _misplaced_error(path, outside_splits, parts[0])
        label = parts[-2] if depth == 2 + has_splits else UNLABELLED
        key = PurePosixPath(*([split] if split else []), *parts[bool(split) :]).with_suffix("").as_posix()
        members.append(Member(path, split, label, key))
    if needs_train and has_splits and all(member.split == "test" for member in members):
        raise LayoutError("there are images below test/ but none below train/")
    return members


def layout_notes(members: Sequence[Member], skipped: Sequence[str]) -> list[str]:
    """What a reader of the dataset should know: skipped files, and classes of one split only."""
    notes = []
    if skipped:
        named = ", ".join(repr(path) for path in skipped[:_MAX_NAMED_FILES])
        more = f" and {len(skipped) - _MAX_NAMED_FILES} more" if len(skipped) > _MAX_NAMED_FILES else ""
        notes.append(f"{len(skipped)} {'file' if len(skipped) == 1 else 'files'} skipped as no images: {named}{more}")
    by_split = {split: {member.label for member in members if member.split == split} for split in ("train", "test")}
    if by_split["train"] and by_split["test"]:
        for one, other in (("train", "test"), ("test", "train")):
            missing = sorted(by_split[one] - by_split[other])
            if missing:
                kind = "training" if other == "train" else "test"
                named = ", ".join(repr(label) for label in missing)
                notes.append(f"no {kind} images of the {'class' if len(missing) == 1 else 'classes'} {named}")
    return notes


def is_labelled(members: Sequence[Member]) -> bool:
    """Whether a classifier can learn from the training images and be tested on the test images."""
    by_split: dict[str | None, set[str]] = {}
    for member in members:
        by_split.setdefault(member.split, set()).add(member.label)
    return len(set(map(frozenset, by_split.values()))) == 1 and len({member.label for member in members}) > 1


def _parts(path: str) -> tuple[str, ...]:
    """One letter may be written in two ways: macOS decomposes accents."""
    readable = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # names need not be UTF-8
    return PurePosixPath(unicodedata.normalize("NFC", readable)).parts


def _split_names(paths: Sequence[tuple[str, ...]]) -> dict[str, Split]:
    """The names of folders that hold a split. Validation images are the test images where there are no others."""
    folders = {part.lower() for parts in paths for part in parts[:-1]}
    has_test = any(_SPLIT_BY_NAME.get(folder) == "test" for folder in folders)
    has_train = any(_SPLIT_BY_NAME.get(folder) == "train" for folder in folders)
    if has_test or not has_train:
        return _SPLIT_BY_NAME
    return {**_SPLIT_BY_NAME, **dict.fromkeys(_VALIDATION_NAMES, "test")}


def _common_root(paths: Sequence[tuple[str, ...]], splits: dict[str, Split]) -> tuple[str, ...]:
    """The folders above the split or class folders, as `zip -r set.zip set` creates them."""
    root: tuple[str, ...] = ()
    while True:
        rest = [parts[len(root) :] for parts in paths]
        if len({parts[0] for parts in rest}) > 1 or rest[0][0].lower() in splits:
            return root
        above_splits = any(len(parts) > 2 and parts[1].lower() in splits for parts in rest)
        # By majority, so that a stray file is named as the misfit and not the files that lie where they should.
        above_classes = 2 * sum(len(parts) > 2 for parts in rest) > len(rest)
        is_file_too = min(map(len, rest)) < 2  # an archive may have one name for a folder and a file
        if is_file_too or not (above_splits or above_classes):
            return root
        root += (rest[0][0],)


def _misplaced_error(path: str, outside_splits: bool, folder: str) -> LayoutError:
    if not is_named_as_image(path):
        return LayoutError(f"{path!r} is not an image: remove it")
    if outside_splits and folder.lower() in _VALIDATION_NAMES:
        return LayoutError(f"{path!r} is a validation image: move these below train/ or test/, or remove them")
    if outside_splits:
        return LayoutError(f"{path!r} is neither below train/ nor below test/, as other files are")
    return LayoutError(
        f"{path!r} is not where it should be: every image belongs into a class folder, "
        "CLASS/NAME or train/CLASS/NAME and test/CLASS/NAME"
    )
