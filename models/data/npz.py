"""One dataset as one .npz blob: the form in which the service stores an uploaded dataset."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from unveil.models.data.image_dataset import ImageDataset

_MIN_MAPPED_BYTES = 2**20
_LOCAL_HEADER_BYTES, _NAME_LENGTH_AT = 30, 26  # of a zip member; the lengths of its name and extra field, 2 bytes each


def save_npz(data: ImageDataset, file: BinaryIO) -> None:
    """Serialize a dataset without its name; `load_npz` is the inverse."""
    arrays: dict[str, Any] = {
        "train": data.train,
        "train_labels": data.train_labels,
        "test": data.test,
        "test_labels": data.test_labels,
        "classes": np.array(data.classes, dtype=np.str_),
        "notes": np.array(data.notes, dtype=np.str_),
    }
    if data.train_originals is not None and data.test_originals is not None:
        arrays |= {"train_originals": data.train_originals, "test_originals": data.test_originals}
    if data.test_names is not None:
        arrays["test_names"] = np.array(data.test_names, dtype=np.str_)
    np.savez(file, **arrays)


def load_npz(name: str, file: BinaryIO) -> ImageDataset:
    """Deserialize what `save_npz` wrote; the arrays of a local file are mapped, so that workers share their memory.

    Raises ValueError for another file, zipfile.BadZipFile for a damaged one; pickled objects are never loaded.
    """
    with zipfile.ZipFile(file) as archive:
        arrays = {info.filename.removesuffix(".npy"): _read_array(archive, info, file) for info in archive.infolist()}
    classes = tuple(str(c) for c in arrays.pop("classes"))
    notes = tuple(str(note) for note in arrays.pop("notes", ()))  # absent in uploads of version 0.1
    names = arrays.pop("test_names", None)  # absent in uploads of version 0.1
    test_names = None if names is None else tuple(map(str, names))
    return ImageDataset(name=name, classes=classes, notes=notes, test_names=test_names, **arrays)


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: BinaryIO) -> npt.NDArray[Any]:
    if info.file_size >= _MIN_MAPPED_BYTES and info.compress_type == zipfile.ZIP_STORED and _is_local(file):
        return _map_array(info, file)
    with archive.open(info) as member:
        array: npt.NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
    return array


def _is_local(file: BinaryIO) -> bool:
    try:
        file.fileno()
    except OSError:
        return False
    return True


def _map_array(info: zipfile.ZipInfo, file: BinaryIO) -> npt.NDArray[Any]:
    """Raises zipfile.BadZipFile if the checksum is wrong: a mapping is not checked by zipfile."""
    file.seek(info.header_offset + _NAME_LENGTH_AT)
    name_length, extra_length = struct.unpack("<HH", file.read(4))
    start = info.header_offset + _LOCAL_HEADER_BYTES + name_length + extra_length
    file.seek(start)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{info.filename}: unknown version of the npy format")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    if fortran_order or dtype.hasobject:
        raise ValueError(f"{info.filename}: not an array that Unveil wrote")
    offset = file.tell()
    file.seek(start)
    checksum = zlib.crc32(file.read(offset - start))
    array = np.memmap(file, dtype, "c", offset, shape)
    if zlib.crc32(array.data, checksum) != info.CRC:
        raise zipfile.BadZipFile(f"Bad CRC-32 for file {info.filename!r}")
    return array.view(np.ndarray)
