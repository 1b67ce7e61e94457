"""PNG files, read without loss: integrity, 16-bit values and transparent colours.

Pillow checks neither the checksums of the pixel data nor its length, and fills missing rows with black, which would
corrupt a ciphertext silently. It also cuts 16-bit colour to its upper bytes.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_INFLATE_CHUNK_BYTES = 2**20
# Chunks that say how the values are to be shown. The values are taken as they are, and a note says so.
_IGNORED_CHUNKS = {
    b"gAMA": "the gamma was ignored",
    b"cHRM": "the chromaticities were ignored",
    b"iCCP": "the colour profile was ignored",
    b"cICP": "the colour code (cICP) was ignored",
    b"mDCV": "the mastering colours (mDCV) were ignored",
    b"cLLI": "the light level (cLLI) was ignored",
}


@dataclass(frozen=True)
class PngFile:
    """The metadata in the chunks of a complete PNG file."""

    width: int
    height: int
    depth: int  # bits of one value
    colour: int
    transparent: bytes | None  # the body of tRNS
    notes: list[str] = field(default_factory=list)  # what is not looked at

    @property
    def has_alpha(self) -> bool:
        return self.colour in (_GREY_ALPHA, _RGBA)

    @property
    def transparent_colour(self) -> list[int] | None:
        """The grey or RGB value that stands for transparent pixels, on the scale of the file."""
        if self.transparent is None or self.colour not in (_GREY, _RGB):
            return None
        mask = 2**self.depth - 1  # a decoder uses the low bits alone
        return [value & mask for (value,) in struct.iter_unpack(">H", self.transparent)]


def read_png(data: bytes) -> PngFile:
    """Check the CRC of every chunk, and that the pixel data inflate to exactly the size in the header.

    Raises ValueError. Uses constant memory, whatever the data would inflate to.
    """
    chunks, pixels, end = _read_chunks(data)
    header = chunks.get(b"IHDR", b"")
    if len(header) != 13:
        raise ValueError("has no header")
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", header)
    if colour not in _CHANNELS or interlace > 1:
        raise ValueError("has a header that makes no sense")
    transparent = chunks.get(b"tRNS")
    if transparent is not None and colour in (_GREY, _RGB) and len(transparent) != 2 * _CHANNELS[colour]:
        raise ValueError("has a transparent colour that makes no sense")
    _check_pixel_data(pixels, width, height, depth * _CHANNELS[colour], interlace)
    notes = [note for kind, note in _IGNORED_CHUNKS.items() if kind in chunks]
    if end < len(data):
        notes.append("data after the image's end were ignored")
    return PngFile(width, height, depth, colour, transparent, notes)


def read_16_bit(data: bytes, png: PngFile) -> npt.NDArray[np.uint16]:
    """The values of a complete 16-bit PNG: uint16 [H, W, channels]."""
    if png.colour in (_GREY, _GREY_ALPHA):
        # The filters work on bytes, so the same rows are an 8-bit image of twice as many channels.
        header = struct.pack(">IIBB", png.width, png.height, 8, {_GREY: _GREY_ALPHA, _GREY_ALPHA: _RGBA}[png.colour])
        body = b"IHDR" + header + data[26:29]
        twin = data[:12] + body + struct.pack(">I", zlib.crc32(body)) + _without_transparency(data[33:])
        with Image.open(io.BytesIO(twin), formats=("PNG",)) as image:
            channels = np.asarray(image)
        high, low = channels[..., ::2], channels[..., 1::2]
    else:
        high, low = (_read_bytes(data, order) for order in "BL")
    return (high.astype(np.uint16) << 8) | low


def _read_bytes(data: bytes, order: str) -> npt.NDArray[np.uint8]:
    """The upper (B) or the lower (L) bytes of 16-bit colour."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        image.tile = [tile._replace(args=f"{image.mode};16{order}") for tile in image.tile]
        return np.asarray(image)


def _without_transparency(chunks: bytes) -> bytes:
    """Without tRNS, which Pillow would misread under another header."""
    start = chunks.find(b"tRNS")
    if start < 0 or start > chunks.find(b"IDAT"):
        return chunks
    length = struct.unpack_from(">I", chunks, start - 4)[0]
    return chunks[: start - 4] + chunks[start + 8 + length :]


def _read_chunks(data: bytes) -> tuple[dict[bytes, bytes], list[bytes], int]:
    """The chunks by kind, the pixel data, and the offset of the file's end."""
    offset, chunks, pixels = len(SIGNATURE), dict[bytes, bytes](), []
    while True:
        if offset + 12 > len(data):
            raise ValueError("is cut off")
        length, kind = struct.unpack_from(">I4s", data, offset)
        body = data[offset + 8 : offset + 8 + length]
        if offset + 12 + length > len(data):
            raise ValueError("is cut off")
        if struct.unpack_from(">I", data, offset + 8 + length)[0] != zlib.crc32(body, zlib.crc32(kind)):
            raise ValueError(f"has a damaged chunk {kind.decode('latin-1')!r}")
        offset += 12 + length
        if kind == b"IDAT":
            pixels.append(body)
        elif kind == b"IEND":
            return chunks, pixels, offset
        else:
            chunks.setdefault(kind, body)


def _check_pixel_data(pixels: list[bytes], width: int, height: int, bits: int, interlace: int) -> None:
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


def _pass_sizes(width: int, height: int) -> list[tuple[int, int]]:
    return [(max(0, -(-(width - x) // dx)), max(0, -(-(height - y) // dy))) for x, y, dx, dy in _ADAM7]


def _pass_bytes(width: int, height: int, bits: int) -> int:
    return height * (1 + -(-width * bits // 8)) if width and height else 0
