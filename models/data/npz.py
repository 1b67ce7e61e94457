"""One dataset as one .npz blob: the form in which the service stores an uploaded dataset."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from unveil.models.data.image_dataset import ImageDataset


def save_npz(data: ImageDataset) -> bytes:
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
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def load_npz(name: str, raw: bytes) -> ImageDataset:
    """Deserialize what `save_npz` wrote. Raises ValueError for another file; pickled objects are never loaded."""
    with np.load(io.BytesIO(raw), allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    classes = tuple(str(c) for c in arrays.pop("classes"))
    notes = tuple(str(note) for note in arrays.pop("notes", ()))  # absent in uploads of version 0.1
    names = arrays.pop("test_names", None)  # absent in uploads of version 0.1
    test_names = None if names is None else tuple(map(str, names))
    return ImageDataset(name=name, classes=classes, notes=notes, test_names=test_names, **arrays)
