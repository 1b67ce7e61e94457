"""Datasets by name: built-in ones, folders of the operator, and uploads (a row and a blob)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sqlalchemy import select

from unveil.app.db.tables import Dataset
from unveil.models.core.images import to_png
from unveil.models.data import datasets
from unveil.models.data.image_dataset import DatasetMissing, ImageDataset
from unveil.models.data.npz import load_npz
from unveil.models.data.reader import center_crop_resize
from unveil.worker.runtime import Runtime

_STRIP_IMAGE_COUNT, _THUMBNAIL_SIDE_PIXELS = 8, 96


def load_dataset(runtime: Runtime, account_id: str, name: str) -> ImageDataset:
    """Raises DatasetMissing, DatasetUnreadable."""
    if not name.startswith("ds_"):
        return datasets.load(name, runtime.settings.data_dir and Path(runtime.settings.data_dir))
    with runtime.sessions() as session:
        row = session.scalar(select(Dataset).where(Dataset.id == name, Dataset.account_id == account_id))
    if row is None:
        raise DatasetMissing(f"dataset {name} was deleted")
    try:
        with runtime.blobs.open(row.blob) as file:
            return load_npz(row.name, file)
    except FileNotFoundError:
        raise DatasetMissing(f"the images of dataset {name} are gone; upload it again") from None


def thumbnail_strip(runtime: Runtime, account_id: str, name: str) -> bytes:
    """A PNG of the first images side by side, each cropped to a square. Raises DatasetMissing."""
    if name.startswith("ds_"):
        images = load_dataset(runtime, account_id, name).test[:_STRIP_IMAGE_COUNT]
    else:
        images = datasets.preview(
            name, runtime.settings.data_dir and Path(runtime.settings.data_dir), _STRIP_IMAGE_COUNT
        )
    return to_png(np.concatenate([center_crop_resize(image, _THUMBNAIL_SIDE_PIXELS) for image in images], axis=1))
