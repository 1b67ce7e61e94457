"""What a key protects with, out of its envelope: all of it in the row, or of a trained network the body in a blob."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from unveil.app.db.tables import Key
from unveil.models.catalog import Scheme
from unveil.worker.runtime import Runtime

_KEPT = 4
_networks: OrderedDict[str, Any] = OrderedDict()  # of this process, by their blobs, the one used last at the end


def secret(tools: Runtime, key: Key) -> bytes:
    """Raises Unreadable, FileNotFoundError (weights that were destroyed meanwhile)."""
    assert key.sealed is not None, "its row said that it is ready"
    sealed = key.sealed if key.blob is None else key.sealed + tools.blobs.read(key.blob)
    return tools.ring.open(sealed, purpose="key", owner=key.account_id, id=key.id)


def loaded(tools: Runtime, scheme: Scheme[Any, Any], key: Key, height: int, width: int) -> Any:
    """The key for images of one size. A network is kept for the next request: look at its row first.

    Raises Unreadable, FileNotFoundError, SizeMismatch.
    """
    if key.blob is None:
        return scheme.key(secret(tools, key), height, width)
    network = _networks.pop(key.blob, None)
    if network is None:
        network = scheme.key(secret(tools, key), height, width)
    _networks[key.blob] = network
    while len(_networks) > _KEPT:
        _networks.popitem(last=False)
    return network
