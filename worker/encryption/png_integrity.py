"""Integrity check of PNG files. Pillow checks neither the checksums of the pixel data nor its length, and fills missing
rows with black, which would corrupt a ciphertext silently."""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_INFLATE_CHUNK_BYTES = 2**20


def check_png_complete(data: bytes) -> None:
    """Check the CRC of every chunk, and that the pixel data inflate to exactly the size in the header.

    Raises ValueError. Uses constant memory, whatever the data would inflate to.
    """
    header, pixels = _read_chunks(data)
    if len(header) != 13:
        raise ValueError("has no header")
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", header)
    if colour not in _CHANNELS or interlace > 1:
        raise ValueError("has a header that makes no sense")
    bits = depth * _CHANNELS[colour]
    pass_sizes = _pass_sizes(width, height) if interlace else [(width, height)]
    remaining = sum(_pass_bytes(pass_width, pass_height, bits) for pass_width, pass_height in pass_sizes)
    stream = zlib.decompressobj()
    try:
        for chunk in pixels:
            pending: bytes = chunk
            while pending:
                remaining -= len(stream.decompress(pending, _INFLATE_CHUNK_BYTES))
                pending = stream.unconsumed_tail
                if remaining < 0:
                    raise ValueError("holds more data than its size has pixels")
        remaining -= len(stream.flush())
    except zlib.error:
        raise ValueError("holds data that do not inflate") from None
    if remaining or not stream.eof:
        raise ValueError("holds less data than its size has pixels")


def _read_chunks(data: bytes) -> tuple[bytes, list[bytes]]:
    """The header and the pixel data."""
    offset, header, pixels = len(SIGNATURE), b"", []
    while True:
        if offset + 12 > len(data):
            raise ValueError("is cut off")
        length, kind = struct.unpack_from(">I4s", data, offset)
        body = data[offset + 8 : offset + 8 + length]
        if offset + 12 + length > len(data):
            raise ValueError("is cut off")
        if struct.unpack_from(">I", data, offset + 8 + length)[0] != zlib.crc32(body, zlib.crc32(kind)):
            raise ValueError(f"has a damaged chunk {kind.decode('latin-1')!r}")
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            pixels.append(body)
        elif kind == b"IEND":
            return header, pixels
        offset += 12 + length


def _pass_sizes(width: int, height: int) -> list[tuple[int, int]]:
    return [(max(0, -(-(width - x) // dx)), max(0, -(-(height - y) // dy))) for x, y, dx, dy in _ADAM7]


def _pass_bytes(width: int, height: int, bits: int) -> int:
    return height * (1 + -(-width * bits // 8)) if width and height else 0
