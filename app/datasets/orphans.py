"""Blobs that a crash or a lost worker left without a row: uploads on their way in, and data sets never recorded."""

from __future__ import annotations

import time
from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.ids import created_at
from app.db.tables import Dataset
from app.storage import Blobs

_FOLDERS = ("uploads", "datasets")
_GRACE_S = 24 * 3600  # far above any upload's own time


def find_orphans(session: Session, blobs: Blobs, older_than_s: float = _GRACE_S) -> Iterator[str]:
    """Names of blobs that no row refers to. An id tells the time it was made, so no clock of a disk is asked."""
    known = set(session.scalars(select(Dataset.blob)))
    limit = time.time() - older_than_s
    for folder in _FOLDERS:
        for name in blobs.names(folder):
            id = name.rsplit("/", 1)[-1].split(".")[0]
            if name not in known and id.startswith("ds_") and created_at(id) < limit:
                yield name
