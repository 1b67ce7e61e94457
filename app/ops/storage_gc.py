"""Blobs that a crash or a lost worker left without a row: uploads on their way in, data sets, weights."""

from __future__ import annotations

import time
from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from unveil.app.db.ids import timestamp_of_id
from unveil.app.db.job_states import ACTIVE
from unveil.app.db.tables import Dataset, Key
from unveil.app.storage import BlobStore

_ID_PREFIX_BY_FOLDER = {"uploads": "ds_", "datasets": "ds_", "keys": "key_"}  # and what the ids there begin with


def find_orphaned_blobs(session: Session, blobs: BlobStore, older_than_s: float) -> Iterator[str]:
    """Names of blobs that no row refers to. An id tells the time it was made, so no clock of a disk is asked."""
    # In this order: what comes to be known meanwhile was on the disk before, and in training before it was known.
    candidates = [
        (name, prefix) for folder, prefix in _ID_PREFIX_BY_FOLDER.items() for name in blobs.list_folder(folder)
    ]
    training = set(session.scalars(select(Key.id).where(Key.status.in_(ACTIVE))))
    referenced = {
        *session.scalars(select(Dataset.blob)),
        *session.scalars(select(Key.weights_blob).where(Key.weights_blob.is_not(None))),
    }
    created_before = time.time() - older_than_s
    for name, prefix in candidates:
        id = name.rsplit("/", 1)[-1].split(".")[0]
        if (
            name not in referenced
            and id not in training
            and id.startswith(prefix)
            and timestamp_of_id(id) < created_before
        ):
            yield name
