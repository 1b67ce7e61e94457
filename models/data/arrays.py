"""Datasets in NumPy files: one .npy of images, or an .npz of images and labels.

Arrays are uint8 [N, H, W], [N, H, W, 3] or [N, 3, H, W]. Names that are read: `images`, `data`, `x` or the only array,
with `labels` or `y`; or the same for each split, such as `train`, `train_images`, `x_train`, `test_labels`, `y_test`.
"""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0

from unveil.models.core.images import Images
from unveil.models.data.image_dataset import DatasetInfo, DatasetUnreadable, ImageDataset
from unveil.models.data.layout import UNLABELLED
from unveil.models.data.reader import DatasetTooLarge

SUFFIXES = (".npy", ".npz")
_NPY_MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 10_000  # the header is a Python literal, whose parser takes much more memory
_MAX_NAME_LENGTH = 200  # of an array or a class
_MAX_NAMED = 3
_LABEL_KINDS = "biufUS"  # of dtypes
_SPLITS = ("train", "test")
_IMAGE_NAMES = ("{split}", "{split}_images", "{split}_x", "x_{split}", "{split}_data")
_LABEL_NAMES = ("{split}_labels", "{split}_y", "y_{split}")


def array_info(name: str, path: Path) -> DatasetInfo:
    """The facts about the dataset in a file. Raises DatasetUnreadable."""
    data = read_arrays(name, path)
    height, width = data.test.shape[1:3]
    return DatasetInfo(
        name, len(data.train), len(data.test), width, height, data.classes,
        note="; ".join(data.notes), labelled=data.is_labelled,
    )  # fmt: skip


def read_arrays(name: str, path: Path) -> ImageDataset:
    """The dataset in a file, split 80/20 where it has no test images. Raises DatasetUnreadable."""
    try:
        with path.open("rb") as file:
            arrays = load_arrays(path.name, file)
    except OSError as error:
        raise DatasetUnreadable(f"{path.name} cannot be read ({error})") from None
    return arrange_arrays(name, path.name, arrays, seed=0)


def load_arrays(source: str, file: BinaryIO, max_bytes: int = 2**62) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npy, under the name `images`, or of an .npz; pickled objects are never loaded.

    source: the file's name, for errors. Raises DatasetUnreadable, and DatasetTooLarge before it loads more than
    `max_bytes`.
    """
    try:
        return _load_arrays(source, file, max_bytes)
    except (DatasetUnreadable, DatasetTooLarge):
        raise
    except Exception as error:  # readers of damaged zips and headers raise TokenError, OverflowError and many others
        raise DatasetUnreadable(f"{source} cannot be read ({str(error)[:200] or type(error).__name__})") from None


def _load_arrays(source: str, file: BinaryIO, max_bytes: int) -> dict[str, npt.NDArray[Any]]:
    file.seek(0)
    if file.read(len(_NPY_MAGIC)) == _NPY_MAGIC:
        return {"images": _load_array(source, file, file.seek(0, io.SEEK_END), max_bytes)}
    arrays: dict[str, npt.NDArray[Any]] = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DatasetUnreadable(
                    f"{source} uses compression method {member.compress_type}; save it with numpy.savez_compressed"
                )
            key = member.filename.removesuffix(".npy").lower()
            if len(key) > _MAX_NAME_LENGTH or not key.isprintable():
                raise DatasetUnreadable(f"{source} has the array {key[:20]!r}...; give it a short, readable name")
            if key in arrays:
                raise DatasetUnreadable(f"{source} has the array {key} twice")
            with archive.open(member) as array_file:
                arrays[key] = _load_array(f"{source}: {key}", array_file, member.file_size, max_bytes)
            max_bytes -= arrays[key].nbytes
    return arrays


def _load_array(source: str, file: IO[bytes], file_bytes: int, max_bytes: int) -> npt.NDArray[Any]:
    """One array. Its header is checked before memory is taken for it."""
    file.seek(0)
    version = np.lib.format.read_magic(file)
    length_bytes, read_header = (2, read_array_header_1_0) if version == (1, 0) else (4, read_array_header_2_0)
    header_bytes = int.from_bytes(file.read(length_bytes), "little")
    if header_bytes > _MAX_HEADER_BYTES:
        raise DatasetUnreadable(f"{source} has a header of {header_bytes} bytes; the limit is {_MAX_HEADER_BYTES}")
    file.seek(-length_bytes, io.SEEK_CUR)
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise DatasetUnreadable(f"{source} holds Python objects, which are never loaded; store images as uint8")
    if min(shape, default=0) < 0:
        raise DatasetUnreadable(f"{source} has the shape {list(shape)}; save it again")
    size = math.prod(shape) * dtype.itemsize
    if size > max_bytes:
        raise DatasetTooLarge(f"{source} holds {size} bytes, the limit is {max_bytes}; upload fewer or smaller images")
    if size > file_bytes - file.tell():
        raise DatasetUnreadable(f"{source} cannot be read (its end is missing); save or copy it again")
    file.seek(0)
    loaded: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return loaded


def arrange_arrays(name: str, source: str, arrays: dict[str, npt.NDArray[Any]], seed: int) -> ImageDataset:
    """The dataset that the arrays hold, split 80/20 by the seed where they have no test images.

    Raises DatasetUnreadable.
    """
    arrays = dict(arrays)
    names, notes = list(arrays), list[str]()
    images = [_find(arrays, [form.format(split=split) for form in _IMAGE_NAMES]) for split in _SPLITS]
    labels = [_find_labels(source, arrays, [form.format(split=split) for form in _LABEL_NAMES]) for split in _SPLITS]
    if images[0] is None or images[1] is None:
        whole, whole_labels = images[0], labels[0]
        if whole is None:
            whole = _find(arrays, ["images", "data", "x", *(arrays if len(arrays) == 1 else [])])
            whole_labels = _find_labels(source, arrays, ["labels", "y"])
        if whole is None:
            more = ", ..." if len(names) > _MAX_NAMED else ""
            raise DatasetUnreadable(
                f"{source} has the arrays {', '.join(names[:_MAX_NAMED])}{more}; name them images and labels, or train "
                "and test"
            )
        images, labels = _split(source, whole, whole_labels, seed)
    if arrays:
        more = f" and {len(arrays) - _MAX_NAMED} more" if len(arrays) > _MAX_NAMED else ""
        notes.append(f"arrays not read: {', '.join(sorted(arrays)[:_MAX_NAMED])}{more}")
    _check_both_labelled(source, labels)
    train, test = (_to_rgb(source, part, notes) for part in images if part is not None)
    if train.shape[1:] != test.shape[1:]:
        raise DatasetUnreadable(f"{source}: training and test images have different sizes")
    indices, classes = _to_classes(source, labels, (len(train), len(test)))
    return ImageDataset(name, train, indices[0], test, indices[1], classes, notes=tuple(dict.fromkeys(notes)))


def _find(arrays: dict[str, npt.NDArray[Any]], names: list[str]) -> npt.NDArray[Any] | None:
    """The first of these arrays, taken out of the others."""
    return next((arrays.pop(name) for name in names if name in arrays), None)


def _find_labels(source: str, arrays: dict[str, npt.NDArray[Any]], names: list[str]) -> npt.NDArray[Any] | None:
    labels = _find(arrays, names)
    if labels is not None and (labels.ndim == 0 or labels.dtype.kind not in _LABEL_KINDS):
        raise DatasetUnreadable(
            f"{source}: labels are {labels.dtype} {list(labels.shape)}; give one number or name for each image"
        )
    if labels is not None and labels.dtype.kind == "f":
        if not (np.isfinite(labels).all() and (labels == np.round(labels)).all()):
            raise DatasetUnreadable(f"{source}: labels are {labels.dtype}; give whole numbers or names")
        labels = labels.astype(np.int64)
    return labels


def _check_both_labelled(source: str, labels: list[npt.NDArray[Any] | None]) -> None:
    for split, part, other in zip(("training", "test"), labels, reversed(labels), strict=True):
        if part is None and other is not None:
            raise DatasetUnreadable(f"{source} has no labels for its {split} images; give them for both or for neither")


def _split(
    source: str, images: npt.NDArray[Any], labels: npt.NDArray[Any] | None, seed: int
) -> tuple[list[npt.NDArray[Any] | None], list[npt.NDArray[Any] | None]]:
    _check_shape(source, images)
    if len(images) < 5:
        raise DatasetUnreadable(
            f"{source} has the shape {list(images.shape)}; at least 5 images [N, H, W, 3] are needed"
        )
    if labels is not None and len(labels) != len(images):
        raise DatasetUnreadable(f"{source} has {len(labels)} labels for {len(images)} images")
    order = np.random.default_rng(seed).permutation(len(images))
    cut = len(images) - len(images) // 5
    parts = order[:cut], order[cut:]
    return [images[part] for part in parts], [None if labels is None else labels[part] for part in parts]


def _check_shape(source: str, images: npt.NDArray[Any]) -> None:
    if images.ndim == 3 and images.shape[2] in (3, 4):
        raise DatasetUnreadable(
            f"{source} has the shape {list(images.shape)}, which is one colour image; store images as [N, H, W, 3]"
        )
    if images.ndim not in (3, 4):
        raise DatasetUnreadable(f"{source} has the shape {list(images.shape)}; images are [N, H, W], [N, H, W, 3]")


def _to_rgb(source: str, images: npt.NDArray[Any], notes: list[str]) -> Images:
    if images.dtype != np.uint8:
        raise DatasetUnreadable(f"{source} holds {images.dtype}; store images as uint8, 0 to 255")
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        images = np.moveaxis(images, 1, 3)
    _check_shape(source, images)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise DatasetUnreadable(f"{source} has the shape {list(images.shape)}; images are [N, H, W], [N, H, W, 3]")
    if images.shape[3] == 1:
        notes.append("grey became RGB")
        images = np.repeat(images, 3, axis=3)
    return np.ascontiguousarray(images)


def _to_classes(
    source: str, labels: list[npt.NDArray[Any] | None], counts: tuple[int, int]
) -> tuple[list[npt.NDArray[np.int64]], tuple[str, ...]]:
    if labels[0] is None or labels[1] is None:
        return [np.zeros(count, np.int64) for count in counts], (UNLABELLED,)
    flat = [part.reshape(len(part), -1) if len(part) else part.reshape(0, 1) for part in labels if part is not None]
    if [part.shape for part in flat] != [(count, 1) for count in counts]:
        raise DatasetUnreadable(f"{source}: give one label for each image")
    values, inverse = np.unique(np.concatenate(flat)[:, 0], return_inverse=True)
    indices = inverse.reshape(-1).astype(np.int64)
    return [indices[: counts[0]], indices[counts[0] :]], _class_names(source, values)


def _class_names(source: str, values: npt.NDArray[Any]) -> tuple[str, ...]:
    try:
        names = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in values.tolist())
    except (ValueError, SystemError):  # no UTF-8, or numbers that are no characters of Unicode
        names = ("",)
    for name in names:
        if not 0 < len(name) <= _MAX_NAME_LENGTH or not name.isprintable():
            raise DatasetUnreadable(f"{source}: the label {name[:20]!r} is not a short, readable name or a number")
    return names
