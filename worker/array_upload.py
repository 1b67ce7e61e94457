"""Build a dataset from an untrusted NumPy file: one .npy of images, or an .npz of images and labels."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from typing import BinaryIO

import numpy as np

from unveil.app.rpc.messages import ArchiveRequest
from unveil.app.settings import Settings
from unveil.models.core.images import Images
from unveil.models.data.arrays import arrange_arrays, load_arrays
from unveil.models.data.image_dataset import DatasetUnreadable, ImageDataset
from unveil.models.data.reader import DatasetTooLarge, center_crop_resize

_NPY_MAGIC = b"\x93NUMPY"
_SOURCE = "the NumPy file"


def is_array_file(file: BinaryIO) -> bool:
    """Whether the upload is an .npy or an .npz, by its content."""
    file.seek(0)
    magic = file.read(len(_NPY_MAGIC))
    file.seek(0)
    if magic == _NPY_MAGIC:
        return True
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):  # reading it as an archive says why
        return False
    finally:
        file.seek(0)
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_array_upload(request: ArchiveRequest, file: BinaryIO, settings: Settings) -> ImageDataset:
    """The images of one upload; plain ones cropped and resized to the requested size.

    Raises DatasetUnreadable, DatasetTooLarge.
    """
    share = 1 if request.originals_blob is None else 2
    max_bytes = settings.max_dataset_bytes // share
    data = arrange_arrays(request.name, _SOURCE, load_arrays(_SOURCE, file, max_bytes), request.seed)
    if request.kind == "plain":
        data = _fit(data, request.size, max_bytes)
    count = len(data.train) + len(data.test)
    if count * data.train[0].nbytes > max_bytes:
        raise _too_large(count, data.train.shape[2], data.train.shape[1], max_bytes)
    return data


def add_originals(data: ImageDataset, plain: ImageDataset) -> ImageDataset:
    """Pairs protected images with the originals at the same index. Raises DatasetUnreadable."""
    if (plain.train.shape, plain.test.shape) != (data.train.shape, data.test.shape):
        raise DatasetUnreadable(
            f"the originals are {_describe_shape(plain)} but the protected images {_describe_shape(data)}: "
            "both need the same images, in the same order or under the same names"
        )
    notes = [*data.notes, *(f"originals: {note}" for note in plain.notes)]
    return replace(data, train_originals=plain.train, test_originals=plain.test, notes=tuple(notes))


def _fit(data: ImageDataset, size: int, max_bytes: int) -> ImageDataset:
    height, width = data.train.shape[1:3]
    count = len(data.train) + len(data.test)
    if count * size * size * 3 > max_bytes:
        raise _too_large(count, size, size, max_bytes)
    conversions = ["cropped to the central square"] if height != width else []
    conversions += [f"resized to {size}x{size}"] if min(height, width) != size else []
    if not conversions:
        return data
    notes = [*data.notes, *(f"{conversion} ({count} of {count} images)" for conversion in conversions)]
    return replace(data, train=_resize(data.train, size), test=_resize(data.test, size), notes=tuple(notes))


def _resize(images: Images, size: int) -> Images:
    resized = np.empty((len(images), size, size, 3), np.uint8)
    for i, image in enumerate(images):
        resized[i] = center_crop_resize(image, size)
    return resized


def _too_large(count: int, width: int, height: int, max_bytes: int) -> DatasetTooLarge:
    return DatasetTooLarge(
        f"{count} images of {width}x{height} are more than {max_bytes} bytes of pixels; upload fewer or smaller ones"
    )


def _describe_shape(data: ImageDataset) -> str:
    height, width = data.train.shape[1:3]
    return f"{len(data.train)} training and {len(data.test)} test images of {width}x{height}"
