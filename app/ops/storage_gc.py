"""Finds blobs without a row, which a crash left behind: uploads in progress, datasets, weights of trained keys."""

from __future__ import annotations

import time
from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from unveil.app.db.ids import timestamp_of_id
from unveil.app.db.job_states import ACTIVE
from unveil.app.db.tables import Dataset, Key
from unveil.app.storage import BlobStore

_ID_PREFIX_BY_FOLDER = {"uploads": "ds_", "datasets": "ds_", "keys": "key_"}  # the prefix of the ids in each folder


def find_orphaned_blobs(session: Session, blobs: BlobStore, older_than_s: float) -> Iterator[str]:
    """Names of blobs that no row names. Their age comes from the time in their id, not from the file system."""
    # The order of the three queries matters: a blob is written before its row names it, and its key is in training
    # until then. A blob that a row starts to name between two queries is therefore found by the last one.
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
