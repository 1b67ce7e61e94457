"""Serialization and encryption of messages between the API and the encryption workers.

A message is one format byte, the version of the master key (2 bytes, big endian), a nonce (12) and AES-256-GCM over

    size of the JSON (4) || number of attachments (4) || size of each attachment (8) || JSON || attachments

under a key that HKDF derives from the master key for this message alone, so plain images lie in Redis encrypted and no
key encrypts two messages.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable
from typing import Any, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import TypeAdapter, ValidationError

from unveil.app.security.envelope import Keyring

Direction = Literal["request", "reply"]

_FORMAT = 2  # format 1 began with the key version, whose first byte is 0 in every keyring so far
_NONCE_BYTES = 12
_adapters: dict[type, TypeAdapter[Any]] = {}  # building one takes milliseconds
_HEADER = struct.Struct(f">BH{_NONCE_BYTES}s")


class UndecodableMessage(ValueError):
    """The bytes are no message of this version and keyring: another format, a lost master key, or tampered with."""


class EncryptedMessageCodec:
    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def encode(self, message: Any, message_id: str, direction: Direction) -> bytes:
        version = self._keyring.primary_version
        nonce = os.urandom(_NONCE_BYTES)
        header = _HEADER.pack(_FORMAT, version, nonce)
        cipher = AESGCM(_message_key(self._keyring.master_keys[version], message_id, direction))
        return header + cipher.encrypt(nonce, _serialize(message), header)

    def decode(self, raw: bytes, message_id: str, direction: Direction, types: Iterable[type]) -> Any:
        """A message of one of the `types`. Raises UndecodableMessage."""
        header, body = raw[: _HEADER.size], raw[_HEADER.size :]
        if len(header) < _HEADER.size:
            raise UndecodableMessage("the message is truncated")
        format, version, nonce = _HEADER.unpack(header)
        master_key = self._keyring.master_keys.get(version)
        if format != _FORMAT or master_key is None:
            raise UndecodableMessage("the message has another format, or its master key is not in the keyring")
        try:
            plain = AESGCM(_message_key(master_key, message_id, direction)).decrypt(nonce, body, header)
        except InvalidTag:
            raise UndecodableMessage("the message was not encrypted under this keyring, id and direction") from None
        return _deserialize(plain, types)


def _message_key(master_key: bytes, message_id: str, direction: Direction) -> bytes:
    info = f"unveil message {direction}".encode()
    return HKDF(SHA256(), length=32, salt=message_id.encode(), info=info).derive(master_key)


def _adapter(message_type: type) -> TypeAdapter[Any]:
    if message_type not in _adapters:
        _adapters[message_type] = TypeAdapter(message_type)
    return _adapters[message_type]


def _serialize(message: Any) -> bytes:
    attachments: list[bytes] = []
    fields = _adapter(type(message)).dump_python(message, mode="json", context=attachments)
    header = json.dumps({"type": type(message).__name__, "fields": fields}, separators=(",", ":")).encode()
    sizes = struct.pack(f">II{len(attachments)}Q", len(header), len(attachments), *map(len, attachments))
    return b"".join([sizes, header, *attachments])


def _deserialize(plain: bytes, types: Iterable[type]) -> Any:
    header_size, count = struct.unpack_from(">II", plain)
    start = 8 + 8 * count
    header = json.loads(plain[start : start + header_size])
    start += header_size
    attachments = []
    for size in struct.unpack_from(f">{count}Q", plain, 8):
        attachments.append(plain[start : start + size])
        start += size
    expected = {kind.__name__: kind for kind in types}
    if header["type"] not in expected:
        raise UndecodableMessage(f"a message of type {header['type']!r} is not expected here")
    try:
        return _adapter(expected[header["type"]]).validate_python(header["fields"], context=attachments)
    except ValidationError as error:  # sent by a process of another version
        raise UndecodableMessage(f"{header['type']} has other fields in this version: {error}") from None
