"""What a key protects with, out of its envelope: in the row, or for trained networks in a blob."""

from __future__ import annotations

from app.db.tables import Key
from worker.runtime import Runtime


def secret(tools: Runtime, key: Key) -> bytes:
    """Raises Unreadable, FileNotFoundError (weights that were destroyed meanwhile)."""
    sealed = key.sealed if key.blob is None else tools.blobs.read(key.blob)
    assert sealed is not None, "its row said that it is ready"
    return tools.ring.open(sealed, purpose="key", owner=key.account_id, id=key.id)
