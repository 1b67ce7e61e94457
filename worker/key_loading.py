"""Decryption of protection keys: the secret is in the row, or for a trained network in a blob."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from unveil.app.db.tables import Key
from unveil.models.catalog import Scheme
from unveil.worker.runtime import Runtime

_MAX_CACHED_NETWORKS = 4
_network_cache: OrderedDict[str, Any] = OrderedDict()  # by blob name, least recently used first


def decrypt_secret(runtime: Runtime, key: Key) -> bytes:
    """Raises DecryptionError, and FileNotFoundError if the weights were destroyed meanwhile."""
    if key.weights_blob is None:
        envelope = key.encrypted_secret
    else:
        assert key.wrapped_key is not None, "deleted only with the key"
        envelope = key.wrapped_key + runtime.blobs.read(key.weights_blob)
    assert envelope is not None, "deleted only with the key"
    return runtime.keyring.open(envelope, purpose="key", owner=key.account_id, id=key.id)


def load_key(runtime: Runtime, scheme: Scheme[Any, Any], key: Key, height: int, width: int) -> Any:
    """The key for images of one size. Caches networks, so check the key's row first: it may be destroyed.

    Raises DecryptionError, FileNotFoundError, SizeMismatch.
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
