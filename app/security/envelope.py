"""Secrets at rest: an AES-256-GCM envelope under rotatable master keys, and keyed hashes of tokens.

An encrypted value is

    version (2, big endian) || nonce (12) || data key under a master key (32 + 16) || nonce (12) || body || tag (16)

with associated data "purpose/owner/id", so a row moved to another owner or id cannot be decrypted. The part up to the
second nonce is the wrapped key, the rest the body. Rotation rewraps the wrapped keys only. A value that is too large
for a row keeps its wrapped key there and its body in a blob, so that no copy of the blob is readable without the row.

The keyring is a file of lines `pepper:BASE64` (keys the token hashes) and `VERSION:BASE64` (master keys, 32 bytes
each; the highest version encrypts).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from unveil.app.settings import Settings

_KEY_BYTES, _NONCE_BYTES, _TAG_BYTES, _VERSION_BYTES = 32, 12, 16, 2
_WRAPPED_KEY_BYTES = _NONCE_BYTES + _KEY_BYTES + _TAG_BYTES
log = logging.getLogger(__name__)
_DEVELOPMENT_KEY = hashlib.sha256(b"unveil development key, never for production").digest()


class DecryptionError(Exception):
    """No key of the ring decrypts the value: it was altered or moved, or its master key is missing."""


class Keyring:
    def __init__(self, pepper: bytes, master_keys: dict[int, bytes]) -> None:
        self._pepper, self._master_keys = pepper, master_keys

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def pepper(self) -> bytes:
        return self._pepper

    @property
    def master_keys(self) -> dict[int, bytes]:
        return self._master_keys

    @property
    def primary_version(self) -> int:
        """Version of the master key that encrypts."""
        return max(self.master_keys)

    def seal(self, plain: bytes, *, purpose: str, owner: str, id: str) -> bytes:
        wrapped_key = self.new_wrapped_key(purpose=purpose, owner=owner, id=id)
        return wrapped_key + self.encrypt_with_data_key(wrapped_key, plain, purpose=purpose, owner=owner, id=id)

    def new_wrapped_key(self, *, purpose: str, owner: str, id: str) -> bytes:
        """A new data key, wrapped by the primary master key."""
        return self._wrap(os.urandom(_KEY_BYTES), _associated_data(purpose, owner, id))

    def encrypt_with_data_key(self, wrapped_key: bytes, plain: bytes, *, purpose: str, owner: str, id: str) -> bytes:
        """A body that `open(wrapped_key + body)` decrypts. Raises DecryptionError."""
        context, nonce = _associated_data(purpose, owner, id), os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._unwrap(wrapped_key, context)).encrypt(nonce, plain, context)

    def open(self, sealed: bytes, *, purpose: str, owner: str, id: str) -> bytes:
        """Raises DecryptionError."""
        context = _associated_data(purpose, owner, id)
        data_key, body = self._unwrap(sealed, context), sealed[_VERSION_BYTES + _WRAPPED_KEY_BYTES :]
        try:
            return AESGCM(data_key).decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise DecryptionError(f"{purpose} {id}") from None

    def derive(self, wrapped_key: bytes, info: str, *, purpose: str, owner: str, id: str) -> bytes:
        """32 bytes for each `info`, derived from the data key, so that a rotation does not change them.

        Raises DecryptionError.
        """
        return hmac.digest(self._unwrap(wrapped_key, _associated_data(purpose, owner, id)), info.encode(), "sha256")

    def rewrap(self, sealed: bytes, *, purpose: str, owner: str, id: str) -> bytes:
        """The same value, or a wrapped key alone, under the primary master key. Raises DecryptionError."""
        context = _associated_data(purpose, owner, id)
        return self._wrap(self._unwrap(sealed, context), context) + sealed[_VERSION_BYTES + _WRAPPED_KEY_BYTES :]

    def token_hash(self, token: str) -> bytes:
        return hmac.digest(self.pepper, token.encode(), "sha256")

    def key_check_value(self, name: str) -> str:
        """Identifies the `pepper` or the master key of a version without revealing it."""
        key = self.pepper if name == "pepper" else self.master_keys.get(int(name), b"")
        return hmac.digest(key, b"unveil key ring", "sha256").hex()  # backups hold this value: the text must stay

    def dumps(self) -> str:
        """The file form."""
        lines = [f"pepper:{base64.b64encode(self.pepper).decode()}"]
        lines += [f"{version}:{base64.b64encode(key).decode()}" for version, key in sorted(self.master_keys.items())]
        return "\n".join(lines) + "\n"

    def with_new_master_key(self) -> Keyring:
        return Keyring(self.pepper, {**self.master_keys, self.primary_version + 1: os.urandom(_KEY_BYTES)})

    def with_primary_master_key_only(self) -> Keyring:
        return Keyring(self.pepper, {self.primary_version: self.master_keys[self.primary_version]})

    def _wrap(self, data_key: bytes, context: bytes) -> bytes:
        version, nonce = self.primary_version, os.urandom(_NONCE_BYTES)
        wrapped = AESGCM(self.master_keys[version]).encrypt(nonce, data_key, context)
        return version.to_bytes(_VERSION_BYTES, "big") + nonce + wrapped

    def _unwrap(self, sealed: bytes, context: bytes) -> bytes:
        master_key = self.master_keys.get(int.from_bytes(sealed[:_VERSION_BYTES], "big"))
        wrapped = sealed[_VERSION_BYTES : _VERSION_BYTES + _WRAPPED_KEY_BYTES]
        if master_key is None or len(wrapped) != _WRAPPED_KEY_BYTES:
            raise DecryptionError("the master key of this value is not in the keyring")
        try:
            return AESGCM(master_key).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], context)
        except InvalidTag:
            raise DecryptionError(context.decode()) from None


class ReloadingKeyring(Keyring):
    """Reloads the operator's file when it changes, so that a rotation reaches running processes.

    Keeps earlier master keys, which messages in Redis and wrapped keys in memory may still need.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError, ValueError."""
        self._path, self._loaded_stamp = path, _file_stamp(path)
        parsed = parse_keyring(path.read_text())
        super().__init__(parsed.pepper, parsed.master_keys)
        self._primary_version = parsed.primary_version

    @property
    def master_keys(self) -> dict[int, bytes]:
        self._refresh()
        return self._master_keys

    @property
    def primary_version(self) -> int:
        self._refresh()
        return self._primary_version

    def _refresh(self) -> None:
        try:
            stamp = _file_stamp(self._path)
            if stamp == self._loaded_stamp:
                return
            parsed = parse_keyring(self._path.read_text())
        except (OSError, ValueError) as error:
            log.error("cannot reload the keyring, keeping the one in memory: %s", error)
            return
        self._master_keys = {**self._master_keys, **parsed.master_keys}
        self._primary_version, self._loaded_stamp = parsed.primary_version, stamp
        log.info("reloaded the keyring: master key %d encrypts", parsed.primary_version)


def _file_stamp(path: Path) -> tuple[int, int, int]:
    file_stat = path.stat()
    return file_stat.st_mtime_ns, file_stat.st_ino, file_stat.st_size


def _associated_data(purpose: str, owner: str, id: str) -> bytes:
    return f"{purpose}/{owner}/{id}".encode()


def new_keyring() -> Keyring:
    return Keyring(os.urandom(_KEY_BYTES), {1: os.urandom(_KEY_BYTES)})


def parse_keyring(text: str) -> Keyring:
    """Raises ValueError."""
    pepper, master_keys = b"", {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, value = line.partition(":")
        key = base64.b64decode(value, validate=True)
        if len(key) != _KEY_BYTES:
            raise ValueError(f"keyring: {name} must be {_KEY_BYTES} bytes in base64")
        if name == "pepper":
            pepper = key
        elif name.isdigit() and 0 < int(name) < 2 ** (8 * _VERSION_BYTES):
            master_keys[int(name)] = key
        else:
            raise ValueError(f"keyring: unknown line {name!r}")
    if not pepper or not master_keys:
        raise ValueError("keyring: a pepper line and at least one numbered master key are needed")
    return Keyring(pepper, master_keys)


def load_keyring(settings: Settings) -> Keyring:
    """The operator's keyring, or a fixed key outside production. Raises RuntimeError, ValueError."""
    if settings.keyring_file is not None:
        return ReloadingKeyring(Path(settings.keyring_file))
    if settings.environment == "production":
        raise RuntimeError("production needs UNVEIL_KEYRING_FILE; create one with `unveil keys new-ring FILE`")
    return Keyring(_DEVELOPMENT_KEY, {1: _DEVELOPMENT_KEY})
