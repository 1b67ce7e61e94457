"""What a key protects with, out of its envelope: all of it in the row, or of a trained network the body in a blob."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from unveil.app.db.tables import Key
from unveil.models.catalog import Scheme
from unveil.worker.runtime import Runtime

_MAX_CACHED_NETWORKS = 4
_network_cache: OrderedDict[str, Any] = OrderedDict()  # of this process, by their blobs, the one used last at the end


def decrypt_secret(runtime: Runtime, key: Key) -> bytes:
    """Raises Unreadable, FileNotFoundError (weights that were destroyed meanwhile)."""
    if key.weights_blob is None:
        envelope = key.encrypted_secret
    else:
        assert key.wrapped_key is not None, "only the destruction of a key deletes it"
        envelope = key.wrapped_key + runtime.blobs.read(key.weights_blob)
    assert envelope is not None, "only the destruction of a key deletes it"
    return runtime.keyring.open(envelope, purpose="key", owner=key.account_id, id=key.id)


def load_key(runtime: Runtime, scheme: Scheme[Any, Any], key: Key, height: int, width: int) -> Any:
    """The key for images of one size. A network is kept for the next request: look at its row first.

    Raises Unreadable, FileNotFoundError, SizeMismatch.
    """
    if key.weights_blob is None:
        return scheme.key(decrypt_secret(runtime, key), height, width)
    network = _network_cache.pop(key.weights_blob, None)
    if network is None:
        network = scheme.key(decrypt_secret(runtime, key), height, width)
    _network_cache[key.weights_blob] = network
    while len(_network_cache) > _MAX_CACHED_NETWORKS:
        _network_cache.popitem(last=False)
    return network
