"""The images of a data set: built-in sets and operator folders by name, uploads by their row and blob."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from sqlalchemy import select

from unveil.app.db.tables import Dataset
from unveil.models.core.images import to_png
from unveil.models.data import datasets
from unveil.models.data.datasets import Data, DatasetMissing, load, load_npz
from unveil.worker.runtime import Runtime

# The cells of an evaluation share their images and mostly run one after another in a process.
_builtin = lru_cache(maxsize=2)(load)
_STRIP, _SIDE = 8, 96


def load_data(tools: Runtime, account_id: str, name: str) -> Data:
    """Raises DatasetMissing."""
    if not name.startswith("ds_"):
        return _builtin(name, tools.settings.data_dir and Path(tools.settings.data_dir))
    with tools.sessions() as session:
        row = session.scalar(select(Dataset).where(Dataset.id == name, Dataset.account_id == account_id))
    if row is None:
        raise DatasetMissing(f"dataset {name} was deleted")
    try:
        return load_npz(row.name, tools.blobs.read(row.blob))
    except FileNotFoundError:
        raise DatasetMissing(f"the images of dataset {name} are gone; upload it again") from None


def strip(tools: Runtime, account_id: str, name: str) -> bytes:
    """A PNG of the first images, side by side: squares of 96 pixels. Raises DatasetMissing."""
    if name.startswith("ds_"):
        images = load_data(tools, account_id, name).test[:_STRIP]
    else:
        images = datasets.glance(name, tools.settings.data_dir and Path(tools.settings.data_dir), _STRIP)
    return to_png(np.concatenate([datasets.fit(image, _SIDE) for image in images], axis=1))
