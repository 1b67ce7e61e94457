"""Datasets in folders: STL-10's binary layout, or one folder of image files for each class."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.data.image_dataset import (
    IMAGE_SIDE,
    DatasetInfo,
    DatasetMissing,
    ImageDataset,
    Labels,
    Split,
    interleave_classes,
    split_80_20,
)
from unveil.models.data.image_files import center_crop_resize, open_image
from unveil.models.data.torchvision_datasets import FOLDERS

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})


@cache
def _open_memmap(path: Path, mtime: float) -> npt.NDArray[np.uint8]:  # noqa: ARG001 - a changed file misses the cache
    return np.memmap(path, np.uint8, "r").reshape(-1, 3, IMAGE_SIDE, IMAGE_SIDE)


def find_dataset_folders(data_dir: Path | None) -> dict[str, Path]:
    """The dataset folders below `data_dir` by name; folders of built-in datasets and hidden folders are skipped."""
    if data_dir is None or not data_dir.is_dir():
        return {}
    reserved = {"sample", *FOLDERS, *FOLDERS.values()}
    folders = {}
    for folder in sorted(data_dir.iterdir()):
        if not folder.is_dir() or folder.name in reserved or folder.name.startswith("."):
            continue
        if (folder / "train_X.bin").is_file() or _class_folders(folder / "train") or _class_folders(folder):
            folders[folder.name] = folder
    return folders


def _class_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [child for child in sorted(folder.iterdir()) if child.is_dir() and any(_image_files(child))]


def _image_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.suffix.lower() in _SUFFIXES and path.is_file())


def folder_info(name: str, folder: Path) -> DatasetInfo:
    """The facts about the dataset in `folder`, from file names and sizes."""
    if (folder / "train_X.bin").is_file():
        train, test = (_binary_count(folder / f"{split}_X.bin") for split in ("train", "test"))
        classes = _class_names(folder)
        return DatasetInfo(name, train, test, IMAGE_SIDE, IMAGE_SIDE, classes, labelled=len(classes) > 1)
    split = (folder / "train").is_dir()
    children = _class_folders(folder / "train" if split else folder)
    total = sum(len(list(_image_files(child))) for child in children)
    names = tuple(child.name for child in children)
    if split:
        test = sum(len(list(_image_files(child))) for child in _class_folders(folder / "test"))
        return DatasetInfo(name, total, test, IMAGE_SIDE, IMAGE_SIDE, names, labelled=len(names) > 1)
    test = total // 5
    return DatasetInfo(name, total - test, test, IMAGE_SIDE, IMAGE_SIDE, names, labelled=len(names) > 1)


def preview_folder(folder: Path, count: int) -> Images:
    """The first `count` test images of the dataset in `folder`; reads no further image."""
    if (folder / "test_X.bin").is_file():
        return _read_binary(folder, "test", count)[0]
    split = folder / "test" if (folder / "test").is_dir() else folder
    return _read_classes(split, tuple(child.name for child in _class_folders(split)), count)[0]


def _binary_count(path: Path) -> int:
    return path.stat().st_size // (3 * IMAGE_SIDE * IMAGE_SIDE) if path.is_file() else 0


def _class_names(folder: Path) -> tuple[str, ...]:
    """The words of class_names.txt; without that file the numbers of the labels; without labels nothing."""
    names, labels = folder / "class_names.txt", folder / "train_y.bin"
    if names.is_file() or not labels.is_file():
        return tuple(names.read_text().split()) if names.is_file() else ()
    return tuple(str(label) for label in range(1, int(np.fromfile(labels, np.uint8).max(initial=0)) + 1))


def read_folder(name: str, folder: Path) -> ImageDataset:
    """The dataset in `folder`. Raises DatasetMissing.

    The folder holds STL-10's binary files, class folders below `train` and `test`, or class folders that are split
    80:20.
    """
    if (folder / "train_X.bin").is_file():
        return ImageDataset(
            name, *_read_binary(folder, "train"), *_read_binary(folder, "test"), classes=_class_names(folder)
        )
    if (folder / "train").is_dir():
        classes = tuple(child.name for child in _class_folders(folder / "train"))
        splits = [_read_classes(folder / split, classes) for split in ("train", "test")]
        return ImageDataset(name, *splits[0], *splits[1], classes=classes)
    classes = tuple(child.name for child in _class_folders(folder))
    images, labels = _read_classes(folder, classes)
    return split_80_20(name, images, labels, classes, seed=0)


def read_stl10_images(path: Path, count: int | None = None) -> Images:
    """The first `count` images of a file in STL-10's layout: uint8 [N, 3, 96, 96], column-major -> [N, 96, 96, 3]."""
    return np.ascontiguousarray(_open_memmap(path, path.stat().st_mtime)[:count].transpose(0, 3, 2, 1))


def _read_binary(folder: Path, split: Split, count: int | None = None) -> tuple[Images, Labels]:
    """The first `count` images of a split in STL-10's layout: uint8 [N, 3, 96, 96], column-major; labels from 1."""
    path = folder / f"{split}_X.bin"
    if not path.is_file():
        raise DatasetMissing(f"{folder.name} lacks {split}_X.bin (STL-10's binary layout)")
    images = read_stl10_images(path, count)
    labels = folder / f"{split}_y.bin"
    if not labels.is_file():
        return images, np.zeros(len(images), np.int64)
    return images, np.fromfile(labels, np.uint8)[:count].astype(np.int64) - 1


def _read_classes(folder: Path, classes: tuple[str, ...], count: int | None = None) -> tuple[Images, Labels]:
    """The first `count` images of class folders, interleaved by class, cropped and resized to 96x96."""
    files = [
        (label, path)
        for label, name in enumerate(classes)
        if (folder / name).is_dir()
        for path in _image_files(folder / name)
    ]
    if not files:
        raise DatasetMissing(f"{folder} contains no class folders with images")
    files = [files[i] for i in interleave_classes([label for label, _ in files])][:count]
    images = np.stack([center_crop_resize(open_image(path), IMAGE_SIDE) for _, path in files])
    return images, np.array([label for label, _ in files], np.int64)
