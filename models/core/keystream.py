"""Key stream, version 1: the expansion of a 32-byte secret to the maps of a scheme.

    stream(secret, label) = SHAKE256("unveil/keystream/1" || 0x00 || size || label || secret)

where size is the length of the label in bytes (2 bytes, big endian). Labels separate the uses of one secret. Draws are
unbiased: bytes out of range are rejected, and permutations come from sorting distinct 64-bit words. Test vectors:
tests/models/core/test_keystream.py.
"""

from __future__ import annotations

import hashlib
import os

import numpy as np
import numpy.typing as npt

SECRET_BYTES = 32
_DOMAIN = b"unveil/keystream/1\x00"
_REJECTED = 255


def new_secret() -> bytes:
    """32 random bytes from the operating system."""
    return os.urandom(SECRET_BYTES)


def keystream_bytes(secret: bytes, label: str, size: int) -> bytes:
    """The first `size` bytes of the stream named `label`."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"secret must be {SECRET_BYTES} bytes; got {len(secret)}")
    name = label.encode()
    return hashlib.shake_256(_DOMAIN + len(name).to_bytes(2, "big") + name + secret).digest(size)


def derive_key(secret: bytes, label: str) -> bytes:
    """An independent secret derived from `secret`."""
    return keystream_bytes(secret, label, SECRET_BYTES)


def uniform_integers(
    secret: bytes, label: str, below: int, count: int, symbols: bytes = bytes(range(256))
) -> npt.NDArray[np.uint8]:
    """`count` independent uniform integers in [0, below), below <= 256, from one accepted byte each.

    symbols: replaces integer i of the result by symbols[i]; with below < 256 no symbol may be 255. Raises ValueError
    for another `below`.
    """
    if not 1 <= below <= 256:
        raise ValueError(f"below must lie in 1..256; got {below}")
    limit = 256 - 256 % below
    # Mean plus six standard deviations of the number of bytes: a second, longer read is almost never needed.
    size = int(count * 256 / limit + 6 * (count * (256 - limit) / limit + 1) ** 0.5) + 1
    while True:
        raw = np.frombuffer(keystream_bytes(secret, label, size), np.uint8)
        values = _rejection_sample(raw, symbols[:below] * (limit // below), count)
        if len(values) == count:
            return values
        size *= 2


def _rejection_sample(raw: npt.NDArray[np.uint8], symbols: bytes, count: int) -> npt.NDArray[np.uint8]:
    """The symbols of the first `count` bytes that have one."""
    from unveil.models.core import numba_kernels  # imported late: the API imports this module and needs no compiler

    table = np.frombuffer(symbols.ljust(256, bytes([_REJECTED])), np.uint8)
    if numba_kernels.rejection_sample is None or len(symbols) == 256:
        return table[raw if len(symbols) == 256 else raw[raw < len(symbols)]][:count]
    out = np.empty(count, np.uint8)
    return out[: numba_kernels.rejection_sample(raw, table, _REJECTED, out)]


def bits(secret: bytes, label: str, count: int) -> npt.NDArray[np.bool_]:
    """`count` independent fair bits, most significant bit of each byte first."""
    raw = np.frombuffer(keystream_bytes(secret, label, -(-count // 8)), np.uint8)
    return np.unpackbits(raw, count=count).astype(np.bool_)


def permutation(secret: bytes, label: str, size: int) -> npt.NDArray[np.int64]:
    """A uniform permutation of range(size): the order of `size` distinct big-endian 64-bit words."""
    return permutations(secret, label, size, 1)[0]


def permutations(secret: bytes, label: str, size: int, count: int) -> npt.NDArray[np.int64]:
    """`count` independent uniform permutations, int64 [count, size], from `size` words of the stream each."""
    total = size * count
    words = np.frombuffer(keystream_bytes(secret, label, 8 * total), ">u8").reshape(count, size)
    for extra in range(1, 5):
        ordered = np.sort(words, axis=1)
        has_tie = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
        if not has_tie.any():
            return np.argsort(words, axis=1, kind="stable")
        # A tie (probability below 2^-50 for 96 words): draw the rows with ties again from the words that follow.
        longer = np.frombuffer(keystream_bytes(secret, label, 8 * total * (extra + 1)), ">u8")[total * extra :]
        words = np.where(has_tie[:, None], longer.reshape(count, size), words)
    raise AssertionError("four ties in a row: the stream is broken")
