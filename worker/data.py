"""The images of an evaluation: built-in sets and operator folders by name, uploads by their row and blob."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from sqlalchemy import select

from app.db.tables import Dataset
from models.datasets import Data, DatasetMissing, load, load_npz
from worker.runtime import Runtime

# The cells of an evaluation share their images and mostly run one after another in a process.
_builtin = lru_cache(maxsize=2)(load)


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
