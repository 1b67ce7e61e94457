"""Blobs that a crash or a lost worker left without a row: uploads on their way in, data sets, weights."""

from __future__ import annotations

import time
from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from unveil.app.db.ids import created_at
from unveil.app.db.job_states import ACTIVE
from unveil.app.db.tables import Dataset, Key
from unveil.app.storage import Blobs

_FOLDERS = {"uploads": "ds_", "datasets": "ds_", "keys": "key_"}  # and what the ids there begin with


def find_orphans(session: Session, blobs: Blobs, older_than_s: float) -> Iterator[str]:
    """Names of blobs that no row refers to. An id tells the time it was made, so no clock of a disk is asked."""
    # In this order: what comes to be known meanwhile was on the disk before, and in training before it was known.
    found = [(name, prefix) for folder, prefix in _FOLDERS.items() for name in blobs.names(folder)]
    training = set(session.scalars(select(Key.id).where(Key.status.in_(ACTIVE))))
    known = {*session.scalars(select(Dataset.blob)), *session.scalars(select(Key.blob).where(Key.blob.is_not(None)))}
    limit = time.time() - older_than_s
    for name, prefix in found:
        id = name.rsplit("/", 1)[-1].split(".")[0]
        if name not in known and id not in training and id.startswith(prefix) and created_at(id) < limit:
            yield name
