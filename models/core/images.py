"""Image arrays: what every scheme, attack and metric takes and returns (uint8 RGB, [N, H, W, 3])."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]

# Of scikit-image's rgb2gray, in ten-thousandths: with integers a flat image stays exactly flat.
GREY_WEIGHTS_10000 = np.array([2125, 7154, 721], np.int32)


def check_images(images: Images, name: str = "images") -> None:
    """Raise ValueError unless `images` is uint8 [N, H, W, 3] with at least one pixel an image."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
        raise ValueError(f"{name} must be uint8 [N, H, W, 3]; got {images.dtype} {list(images.shape)}")


def check_pair(plain: Images, other: Images) -> None:
    """Raise ValueError unless both are uint8 [N, H, W, 3] of one shape."""
    check_images(plain, "plain")
    check_images(other, "other")
    if plain.shape != other.shape:
        raise ValueError(f"images must have one shape; got {list(plain.shape)} and {list(other.shape)}")


def padded_size(height: int, width: int, multiple: int) -> tuple[int, int]:
    """The smallest size at least (height, width) whose sides are multiples of `multiple`."""
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def pad(images: Images, multiple: int) -> Images:
    """Replicate the right and bottom edges until both sides are multiples of `multiple`."""
    height, width = images.shape[1:3]
    return pad_to(images, *padded_size(height, width, multiple))


def pad_to(images: Images, to_height: int, to_width: int) -> Images:
    """Replicate the right and bottom edges up to a size; no side gets smaller."""
    height, width = images.shape[1:3]
    to_height, to_width = max(height, to_height), max(width, to_width)
    if (to_height, to_width) == (height, width):
        return images
    return np.pad(images, ((0, 0), (0, to_height - height), (0, to_width - width), (0, 0)), mode="edge")


def quantise(images: npt.NDArray[np.floating]) -> Images:
    """Float images on the scale 0..255 to the 8-bit images a client would receive (rounded, clipped)."""
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def to_png(image: Images, text: Mapping[str, str] | None = None) -> bytes:
    """One image uint8 [H, W, 3] as a PNG, stored uncompressed: ciphertext does not compress, and this is a copy.

    `text` becomes tEXt chunks (Latin-1, keywords of 1 to 79 characters).
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be uint8 [H, W, 3]; got {image.dtype} {list(image.shape)}")
    height, width, _ = image.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with its filter type: none
    rows[:, 1:] = image.reshape(height, 3 * width)
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    for keyword, value in (text or {}).items():
        chunks.append(_chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + value.encode("latin-1")))
    chunks += [_chunk(b"IDAT", zlib.compress(rows.tobytes(), 0)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
