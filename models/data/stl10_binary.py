"""STL-10's binary layout: train_X.bin, train_y.bin, test_X.bin, test_y.bin and class_names.txt.

Images are uint8 [N, 3, W, H], column-major, labels uint8 counted from 1. Other sizes than 96x96 are read where the
labels say how many images there are.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.data.image_dataset import IMAGE_SIDE, DatasetInfo, DatasetUnreadable, ImageDataset, Labels, Split


def is_binary_folder(folder: Path) -> bool:
    return (folder / "train_X.bin").is_file()


def binary_info(name: str, folder: Path) -> DatasetInfo:
    """The facts about the dataset, from file sizes and labels. Raises DatasetUnreadable."""
    shapes = {split: _shape(folder, split) for split in ("train", "test")}
    classes = _class_names(folder)
    labels = [_raw_labels(folder, split) for split in ("train", "test")]
    same_classes = all(part is not None for part in labels) and len({frozenset(part.tolist()) for part in labels}) == 1  # type: ignore[union-attr]
    side = shapes["train"][1]
    return DatasetInfo(
        name, shapes["train"][0], shapes["test"][0], side, side, classes, labelled=same_classes and len(classes) > 1
    )


def read_binary(name: str, folder: Path) -> ImageDataset:
    """Raises DatasetUnreadable."""
    classes = _class_names(folder)
    return ImageDataset(
        name,
        read_binary_images(folder, "train"),
        _read_labels(folder, "train", len(classes)),
        read_binary_images(folder, "test"),
        _read_labels(folder, "test", len(classes)),
        classes,
    )


def read_binary_images(folder: Path, split: Split, count: int | None = None) -> Images:
    """The first `count` images of a split. Raises DatasetUnreadable."""
    number, side = _shape(folder, split)
    return read_stl10_images(folder / f"{split}_X.bin", min(number, number if count is None else count), side)


def read_stl10_images(path: Path, count: int | None = None, side: int = IMAGE_SIDE) -> Images:
    """The first `count` images of a file in STL-10's layout: uint8 [N, 3, W, H], column-major -> [N, H, W, 3]."""
    images = np.memmap(path, np.uint8, "r").reshape(-1, 3, side, side)
    return np.ascontiguousarray(images[:count].transpose(0, 3, 2, 1))


def _shape(folder: Path, split: Split) -> tuple[int, int]:
    """The number of images of a split and their side."""
    path = folder / f"{split}_X.bin"
    if not path.is_file():
        raise DatasetUnreadable(f"{folder.name} lacks {split}_X.bin (STL-10's binary layout)")
    size, labels = path.stat().st_size, _raw_labels(folder, split)
    count = len(labels) if labels is not None else size // (3 * IMAGE_SIDE**2)
    side = math.isqrt(size // (3 * count)) if count else 0
    if side == 0 or 3 * count * side**2 != size:
        raise DatasetUnreadable(
            f"{folder.name}/{path.name} has {size} bytes, which are no {count} square images of 3 bytes a pixel"
        )
    return count, side


def _raw_labels(folder: Path, split: Split) -> npt.NDArray[np.uint8] | None:
    path = folder / f"{split}_y.bin"
    return np.fromfile(path, np.uint8) if path.is_file() else None


def _read_labels(folder: Path, split: Split, classes: int) -> Labels:
    labels = _raw_labels(folder, split)
    if labels is None:
        return np.zeros(_shape(folder, split)[0], np.int64)
    if labels.min(initial=1) < 1 or labels.max(initial=1) > max(1, classes):
        raise DatasetUnreadable(
            f"{folder.name}/{split}_y.bin has labels from {labels.min()} to {labels.max()}; "
            f"there are {classes} classes, counted from 1"
        )
    return labels.astype(np.int64) - 1


def _class_names(folder: Path) -> tuple[str, ...]:
    """The lines of class_names.txt; without that file the numbers of the labels; without labels nothing."""
    names, labels = folder / "class_names.txt", _raw_labels(folder, "train")
    if names.is_file():
        lines = names.read_text(errors="replace").splitlines()
        return tuple(line.strip() for line in lines if line.strip())
    return () if labels is None else tuple(str(label) for label in range(1, int(labels.max(initial=0)) + 1))
