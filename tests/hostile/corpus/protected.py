"""What is not the ciphertext it claims to be, sent to decrypt. `KEY` stands for the id of a key of the sender."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tests.hostile.corpus.kind import HostileCase, RequestBody, form, image, part
from tests.worker.sample_images import encode, encode_pixels, noise
from unveil.models.core.images import to_png
from unveil.worker.encryption.ciphertext import ORIGINAL_SIZE_KEY

KEY = "key_00000000000070008000000000000000"  # as long as the real one, which takes its place


def _kind(name: str, status: int, code: str, data: bytes, *parts: bytes, key: str = KEY) -> HostileCase:
    return HostileCase(name, "/decrypt", status, code, lambda: form(part("key_id", key), *parts, image(data)))


def with_key(sent: RequestBody, key_id: str) -> RequestBody:
    """The request with a real key's id."""
    if not isinstance(sent.content, bytes):
        return sent
    return RequestBody(sent.content.replace(KEY.encode(), key_id.encode()), sent.headers)


_CIPHER = noise(16, 16)
_WITH_ALPHA = np.dstack([_CIPHER, np.full((16, 16), 255, np.uint8)])


def _size_chunk(size: str) -> bytes:
    return to_png(_CIPHER, {ORIGINAL_SIZE_KEY: size})


KINDS = [
    _kind("a ciphertext with alpha", 422, "not_exact", encode_pixels(_WITH_ALPHA)),
    _kind("a ciphertext in a palette", 422, "not_exact", encode(Image.fromarray(_CIPHER).quantize(16), "PNG")),
    _kind("a ciphertext in WebP", 422, "not_exact", encode_pixels(_CIPHER, "WEBP", lossless=True)),
    _kind("an original larger than its file", 422, "not_exact", _size_chunk("17x1")),
    _kind("an original of no size", 422, "not_exact", _size_chunk("0x0")),
    _kind("an original of 20 digits", 422, "not_exact", _size_chunk("99999999999999999999x1")),
    _kind("an original of SQL", 422, "not_exact", _size_chunk("1x1'; DROP TABLE keys; --")),
    _kind("a side that no block fits", 422, "size_mismatch", encode_pixels(noise(15, 16))),
    _kind(
        "an original asked for that is too large", 422, "size_mismatch", to_png(_CIPHER),
        part("original_width", "17"), part("original_height", "16"),
    ),
    _kind(
        "a side in other digits", 422, "invalid_request", to_png(_CIPHER),
        part("original_width", "１６"), part("original_height", "16"),
    ),
    _kind("a key of SQL", 404, "unknown_key", to_png(_CIPHER), key="' OR '1'='1"),
    _kind("a key with a NUL", 404, "unknown_key", to_png(_CIPHER), key="key_\0"),
    _kind("a key of sixty thousand letters", 404, "unknown_key", to_png(_CIPHER), key="k" * 60_000),
    _kind("a key id with line ends", 404, "unknown_key", to_png(_CIPHER), key="key_1\r\nSet-Cookie: a=b"),
]  # fmt: skip
