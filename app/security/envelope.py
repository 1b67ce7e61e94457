"""Secrets at rest: an AES-256-GCM envelope under rotatable master keys, and keyed hashes of tokens.

A sealed value is

    version (2, big endian) || nonce (12) || data key under a master key (32 + 16) || nonce (12) || body || tag (16)

with associated data "purpose/owner/id", so a row moved to another owner or id does not open. Everything up to the
second nonce is the lock, the rest the body. Rotation rewraps locks only; what is too large for a row keeps its lock
there and its body in a blob, so that a blob, or a copy of it, says nothing once the row is gone.

The key ring is a file of lines `pepper:BASE64` (keys the token hashes) and `VERSION:BASE64` (master keys, 32 bytes
each; the highest version seals).
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

_KEY, _NONCE, _TAG, _VERSION = 32, 12, 16, 2
_WRAPPED = _NONCE + _KEY + _TAG
log = logging.getLogger(__name__)
_DEVELOPMENT = hashlib.sha256(b"unveil development key, never for production").digest()


class Unreadable(Exception):
    """A sealed value that no key of the ring opens: tampered with, moved, or sealed under a lost master key."""


class KeyRing:
    def __init__(self, pepper: bytes, masters: dict[int, bytes]) -> None:
        self._pepper, self._masters = pepper, masters

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def pepper(self) -> bytes:
        return self._pepper

    @property
    def masters(self) -> dict[int, bytes]:
        return self._masters

    @property
    def current(self) -> int:
        """The master key that seals."""
        return max(self.masters)

    def seal(self, plain: bytes, *, purpose: str, owner: str, id: str) -> bytes:
        lock = self.new_lock(purpose=purpose, owner=owner, id=id)
        return lock + self.seal_under(lock, plain, purpose=purpose, owner=owner, id=id)

    def new_lock(self, *, purpose: str, owner: str, id: str) -> bytes:
        """A lock without a body yet."""
        return self._wrap(os.urandom(_KEY), _context(purpose, owner, id))

    def seal_under(self, lock: bytes, plain: bytes, *, purpose: str, owner: str, id: str) -> bytes:
        """A body that `open(lock + body)` opens. Raises Unreadable."""
        context, nonce = _context(purpose, owner, id), os.urandom(_NONCE)
        return nonce + AESGCM(self._unwrap(lock, context)).encrypt(nonce, plain, context)

    def open(self, sealed: bytes, *, purpose: str, owner: str, id: str) -> bytes:
        """Raises Unreadable."""
        context = _context(purpose, owner, id)
        data_key, body = self._unwrap(sealed, context), sealed[_VERSION + _WRAPPED :]
        try:
            return AESGCM(data_key).decrypt(body[:_NONCE], body[_NONCE:], context)
        except (InvalidTag, ValueError):
            raise Unreadable(f"{purpose} {id}") from None

    def derive(self, lock: bytes, use: str, *, purpose: str, owner: str, id: str) -> bytes:
        """32 bytes of their own for each use that follow from a lock, whatever master key it is under.

        Raises Unreadable.
        """
        return hmac.digest(self._unwrap(lock, _context(purpose, owner, id)), use.encode(), "sha256")

    def rewrap(self, sealed: bytes, *, purpose: str, owner: str, id: str) -> bytes:
        """The same secret, or the same lock alone, under the current master key. Raises Unreadable."""
        context = _context(purpose, owner, id)
        return self._wrap(self._unwrap(sealed, context), context) + sealed[_VERSION + _WRAPPED :]

    def is_current(self, sealed: bytes) -> bool:
        return int.from_bytes(sealed[:_VERSION], "big") == self.current

    def token_hash(self, token: str) -> bytes:
        return hmac.digest(self.pepper, token.encode(), "sha256")

    def mark(self, name: str) -> str:
        """Tells by which `pepper`, or master key of a number, something was sealed, and nothing about it."""
        key = self.pepper if name == "pepper" else self.masters.get(int(name), b"")
        return hmac.digest(key, b"unveil key ring", "sha256").hex()

    def dump(self) -> str:
        """The file form."""
        lines = [f"pepper:{base64.b64encode(self.pepper).decode()}"]
        lines += [f"{version}:{base64.b64encode(key).decode()}" for version, key in sorted(self.masters.items())]
        return "\n".join(lines) + "\n"

    def with_new_master(self) -> KeyRing:
        return KeyRing(self.pepper, {**self.masters, self.current + 1: os.urandom(_KEY)})

    def with_newest_master_only(self) -> KeyRing:
        return KeyRing(self.pepper, {self.current: self.masters[self.current]})

    def _wrap(self, data_key: bytes, context: bytes) -> bytes:
        version, nonce = self.current, os.urandom(_NONCE)
        wrapped = AESGCM(self.masters[version]).encrypt(nonce, data_key, context)
        return version.to_bytes(_VERSION, "big") + nonce + wrapped

    def _unwrap(self, sealed: bytes, context: bytes) -> bytes:
        master = self.masters.get(int.from_bytes(sealed[:_VERSION], "big"))
        wrapped = sealed[_VERSION : _VERSION + _WRAPPED]
        if master is None or len(wrapped) != _WRAPPED:
            raise Unreadable("sealed under a master key that is not in the key ring")
        try:
            return AESGCM(master).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], context)
        except InvalidTag:
            raise Unreadable(context.decode()) from None


class RingFile(KeyRing):
    """The operator's file, read again when it changes: a rotation reaches the processes that run.

    What the file held before goes on opening: a parcel on its way, or a lock that a job has read, outlive a rotation.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError, ValueError."""
        self._path, self._seen = path, _stamp(path)
        read = parse_key_ring(path.read_text())
        super().__init__(read.pepper, read.masters)
        self._current = read.current

    @property
    def masters(self) -> dict[int, bytes]:
        self._refresh()
        return self._masters

    @property
    def current(self) -> int:
        self._refresh()
        return self._current

    def _refresh(self) -> None:
        try:
            stamp = _stamp(self._path)
            if stamp == self._seen:
                return
            read = parse_key_ring(self._path.read_text())
        except (OSError, ValueError) as error:
            log.error("the key ring cannot be read again, the one in memory goes on: %s", error)
            return
        self._masters = {**self._masters, **read.masters}
        self._current, self._seen = read.current, stamp
        log.info("read the key ring again: master key %d seals", read.current)


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size


def _context(purpose: str, owner: str, id: str) -> bytes:
    return f"{purpose}/{owner}/{id}".encode()


def new_key_ring() -> KeyRing:
    return KeyRing(os.urandom(_KEY), {1: os.urandom(_KEY)})


def parse_key_ring(text: str) -> KeyRing:
    """Raises ValueError."""
    pepper, masters = b"", {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, value = line.partition(":")
        key = base64.b64decode(value, validate=True)
        if len(key) != _KEY:
            raise ValueError(f"key ring: {name} must be {_KEY} bytes in base64")
        if name == "pepper":
            pepper = key
        elif name.isdigit() and 0 < int(name) < 2 ** (8 * _VERSION):
            masters[int(name)] = key
        else:
            raise ValueError(f"key ring: unknown line {name!r}")
    if not pepper or not masters:
        raise ValueError("key ring: a pepper line and at least one numbered master key are needed")
    return KeyRing(pepper, masters)


def load_key_ring(settings: Settings) -> KeyRing:
    """The operator's key ring; outside production, without one, a fixed key. Raises RuntimeError, ValueError."""
    if settings.keyring_file is not None:
        return RingFile(Path(settings.keyring_file))
    if settings.environment == "production":
        raise RuntimeError("production needs UNVEIL_KEYRING_FILE; make one with `unveil keys new-ring FILE`")
    return KeyRing(_DEVELOPMENT, {1: _DEVELOPMENT})
