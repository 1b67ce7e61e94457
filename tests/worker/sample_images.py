"""Image files of every awkward kind, made on the spot."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def noise(height: int = 12, width: int = 10, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def encode_pixels(pixels: np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    return encode(Image.fromarray(pixels), format, **options)


def png_of_16_bits(values: np.ndarray) -> bytes:
    """uint16 [H, W] grey, or [H, W, 3] colour; Pillow does not write the latter."""
    height, width = values.shape[:2]
    colour = 2 if values.ndim == 3 else 0
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(width, height, 16, colour, zlib.compress(rows))


def png(width: int, height: int, depth: int, colour: int, body: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG that says what it is told to say, true or not."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def encode_animation(format: str) -> bytes:
    frames = [Image.fromarray(noise(seed=seed)) for seed in range(3)]
    return encode(frames[0], format, save_all=True, append_images=frames[1:])
