"""Datasets of an operator: folders of image files or of STL-10's binary files, and NumPy files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from unveil.models.core.images import Images
from unveil.models.data import arrays, heic_files, stl10_binary
from unveil.models.data.decoding import ImageError
from unveil.models.data.formats import is_readable
from unveil.models.data.image_dataset import IMAGE_SIDE, DatasetInfo, DatasetUnreadable, ImageDataset, Labels
from unveil.models.data.layout import (
    LayoutError,
    Member,
    is_labelled,
    is_litter,
    is_named_as_image,
    layout_notes,
    place_members,
)
from unveil.models.data.reader import DatasetReader, interleave_members, split_members
from unveil.models.data.torchvision_datasets import FOLDERS

_MAGIC_BYTES = 64
_MIN_KEPT_SIDE, _MAX_KEPT_SIDE = 8, 512

# Of one file: path below the folder, size, times and inode. The change time moves with every write, whatever a copying
# program does to the modification time.
FileState = tuple[str, int, int, int, int]
Fingerprint = tuple[FileState, ...]


def find_dataset_folders(data_dir: Path | None) -> dict[str, Path]:
    """The datasets below `data_dir` by name; folders of built-in datasets and hidden ones are skipped."""
    if data_dir is None or not data_dir.is_dir():
        return {}
    reserved = {"sample", *FOLDERS, *FOLDERS.values()}
    found: dict[str, Path] = {}
    for path in sorted(data_dir.iterdir()):
        name = path.stem if path.suffix in arrays.SUFFIXES else path.name
        if name not in reserved and not name.startswith(".") and _holds_dataset(path):
            found.setdefault(name, path)
    return found


def _holds_dataset(folder: Path) -> bool:
    if not folder.is_dir():
        return folder.suffix in arrays.SUFFIXES and folder.is_file()
    try:
        return any(path == "train_X.bin" or _is_image_file(folder, path) for path in _walk(folder))
    except DatasetUnreadable:
        return True  # reading it says why


def fingerprint(folder: Path) -> Fingerprint:
    """The state of every file below the folder: it changes when a file does."""
    states: list[FileState] = []
    if folder.is_file():
        return (_file_state(folder, folder.name),)
    with suppress(DatasetUnreadable):  # reading it says why
        states.extend(_file_state(folder / path, path) for path in _walk(folder))
    return tuple(states)


def _file_state(file: Path, path: str) -> FileState:
    try:
        stat = file.stat()
    except OSError:  # gone, or a link to nothing: reading it names it
        return path, -1, 0, 0, 0
    return path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


@lru_cache(maxsize=256)
def folder_info(name: str, folder: Path, state: Fingerprint) -> DatasetInfo:  # noqa: ARG001 - a changed folder misses the cache
    """The facts about the dataset in `folder`, from file names, headers and sizes.

    A folder that is not a dataset is not available, and its note states the reason.
    """
    try:
        if folder.is_file():
            return arrays.array_info(name, folder)
        if stl10_binary.is_binary_folder(folder):
            return stl10_binary.binary_info(name, folder)
        members, skipped = _list_members(folder)
        train, test = split_members(members, seed=0)
    except (LayoutError, DatasetUnreadable) as error:
        return DatasetInfo(name, 0, 0, 0, 0, available=False, note=str(error), labelled=False)
    classes = tuple(sorted({member.label for member in members}))
    return DatasetInfo(
        name, len(train), len(test), IMAGE_SIDE, IMAGE_SIDE, classes,
        note="; ".join(layout_notes(members, skipped)), labelled=is_labelled(members),
    )  # fmt: skip


def read_folder(name: str, folder: Path) -> ImageDataset:
    """The dataset in `folder`, or in a NumPy file. Raises DatasetUnreadable."""
    if folder.is_file():
        return arrays.read_arrays(name, folder)
    if stl10_binary.is_binary_folder(folder):
        return stl10_binary.read_binary(name, folder)
    try:
        members, skipped = _list_members(folder)
        return DatasetReader(_read_from(folder), IMAGE_SIDE).read_splits(name, members, 0, skipped)
    except (LayoutError, ImageError, OSError) as error:
        raise DatasetUnreadable(f"dataset {name}: {_reason(error)}") from None


@dataclass(frozen=True)
class FolderImages:
    """All images of a folder, uint8 [N, H, W, 3], whatever split they are in.

    names: their paths without suffixes; None for STL-10's binary files, whose images have no names.
    """

    images: Images
    labels: Labels
    classes: tuple[str, ...]
    names: tuple[str, ...] | None
    notes: tuple[str, ...] = ()


def read_folder_images(folder: Path, *, may_resize: bool = True) -> FolderImages:
    """All images in the order of their paths. Raises DatasetUnreadable.

    Square images of 8x8 to 512x512 that all have one size keep it. Others become 96x96, or are refused unless
    `may_resize`.
    """
    if stl10_binary.is_binary_folder(folder):
        data = stl10_binary.read_binary(folder.name, folder)
        images, labels = np.concatenate([data.test, data.train]), np.concatenate([data.test_labels, data.train_labels])
        return FolderImages(images, labels, data.classes, None)
    try:
        paths, skipped = _list_paths(folder)
        members = place_members(paths, needs_train=False)
        sizes = _image_sizes(folder, members)
        side, reason = _kept_side(sizes)
        if side is None and not may_resize:
            raise LayoutError(f"{reason}, so they would have to be resized; store them as they are scored")
        reader = DatasetReader(_read_from(folder), side or IMAGE_SIDE)
        images = reader.read_images(members)
    except (LayoutError, ImageError, OSError) as error:
        raise DatasetUnreadable(f"dataset {folder.name}: {_reason(error)}") from None
    classes = tuple(sorted({member.label for member in members}))
    notes = [*layout_notes(members, skipped), *reader.conversion_notes(len(members))]
    if side is None and len(sizes) == 1:
        notes.append(reason)
    labels = np.array([classes.index(member.label) for member in members], np.int64)
    return FolderImages(images, labels, classes, tuple(member.key for member in members), tuple(notes))


def preview_folder(name: str, folder: Path, count: int) -> Images:
    """The first `count` test images of the dataset in `folder`; reads no further image. Raises DatasetUnreadable."""
    if folder.is_file():
        return arrays.read_arrays(name, folder).test[:count]
    if stl10_binary.is_binary_folder(folder):
        return stl10_binary.read_binary_images(folder, "test", count)
    try:
        _, test = split_members(_list_members(folder)[0], seed=0)
        return DatasetReader(_read_from(folder), IMAGE_SIDE).read_images(test[:count])
    except (LayoutError, ImageError, OSError) as error:
        raise DatasetUnreadable(f"dataset {name}: {_reason(error)}") from None


def _image_sizes(folder: Path, members: list[Member]) -> set[tuple[int, int]]:
    """Width and height of the images; stops at the second size."""
    sizes = set[tuple[int, int]]()
    with suppress(ImportError):  # reading the image says what is missing
        heic_files.register_reader()
    for member in members:
        with suppress(Exception):  # reading it will name it
            with Image.open(folder / member.path) as image:
                sizes.add(image.size)
            if len(sizes) > 1:
                break
    return sizes


def _kept_side(sizes: set[tuple[int, int]]) -> tuple[int | None, str]:
    """The side of images that keep their size; or None and the reason why they do not."""
    if len(sizes) > 1:
        return None, "the images have different sizes"
    ((width, height),) = sizes or {(0, 0)}
    if width == height and _MIN_KEPT_SIDE <= width <= _MAX_KEPT_SIDE:
        return width, ""
    limits = f"{_MIN_KEPT_SIDE}x{_MIN_KEPT_SIDE} to {_MAX_KEPT_SIDE}x{_MAX_KEPT_SIDE}"
    return None, f"the images are {width}x{height}, and only square ones of {limits} keep their size"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename} cannot be read ({error.strerror})"
    return error.detail if isinstance(error, ImageError) else str(error)


def _list_paths(folder: Path) -> tuple[list[str], list[str]]:
    """The paths of the images, and of the other files, in order."""
    paths, skipped = list[str](), list[str]()
    for path in sorted(_walk(folder)):
        (paths if _is_image_file(folder, path) else skipped).append(path)
    return paths, skipped


def _list_members(folder: Path) -> tuple[list[Member], list[str]]:
    """The members of the dataset, and the paths of the other files. Raises LayoutError."""
    paths, skipped = _list_paths(folder)
    # Interleaved before the 80/20 split, as by version 0.1: an evaluation that resumes finds the same images.
    return interleave_members(place_members(paths)), skipped


def _walk(folder: Path, below: str = "", seen: tuple[str, ...] = ()) -> Iterator[str]:
    """The files below the folder, relative to it. Follows links, but not in circles."""
    real = os.path.realpath(folder / below)
    if real in seen:
        return
    try:
        entries = sorted(os.scandir(folder / below), key=lambda entry: entry.name)
    except OSError as error:
        raise DatasetUnreadable(f"{error.filename} cannot be read ({error.strerror})") from None
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir():
            yield from _walk(folder, path, (*seen, real))
        else:
            yield path


def _is_image_file(folder: Path, path: str) -> bool:
    """Named as an image, or an image under another name."""
    file = folder / path
    if is_litter(path) or (file.exists() and not file.is_file()):  # opening a named pipe would wait for its writer
        return False
    if is_named_as_image(path):
        return True
    try:
        with file.open("rb") as opened:
            return is_readable(opened.read(_MAGIC_BYTES))
    except OSError:
        return False


def _read_from(folder: Path) -> Callable[[Member], bytes]:
    return lambda member: (folder / member.path).read_bytes()
