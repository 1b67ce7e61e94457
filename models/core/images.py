"""Image arrays uint8 [N, H, W, 3] in RGB, the type that every scheme, attack and metric takes and returns."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Window = tuple[slice, slice]  # rows, columns

# The weights of scikit-image's rgb2gray in ten-thousandths: with integers a flat image stays exactly flat.
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
    """Replicate the right and bottom edges up to a size; a side that is already longer stays."""
    height, width = images.shape[1:3]
    to_height, to_width = max(height, to_height), max(width, to_width)
    if (to_height, to_width) == (height, width):
        return images
    return np.pad(images, ((0, 0), (0, to_height - height), (0, to_width - width), (0, 0)), mode="edge")


def quantise(images: npt.NDArray[np.floating]) -> Images:
    """Round and clip float images on the scale 0..255 to uint8, the form in which a client receives them."""
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def tiles(height: int, width: int, side: int, margin: int) -> Iterator[tuple[Window, Window, Window]]:
    """Cut a large image into tiles with overlap, so that the memory of a network is bounded.

    Yields the window that the network reads, at most side x side; the window of the image that its output fills; and
    that window within the first. The windows to fill cover the image once, with `margin` pixels of context around each
    except at the borders of the image.
    """
    for rows in _split_length(height, side, margin):
        for columns in _split_length(width, side, margin):
            (input_rows, output_rows, inner_rows), (input_columns, output_columns, inner_columns) = rows, columns
            yield (input_rows, input_columns), (output_rows, output_columns), (inner_rows, inner_columns)


def _split_length(length: int, side: int, margin: int) -> Iterator[tuple[slice, slice, slice]]:
    step = length if length <= side else side - 2 * margin
    for start in range(0, length, step):
        stop = min(length, start + step)
        first = max(0, start - margin)
        yield slice(first, min(length, stop + margin)), slice(start, stop), slice(start - first, stop - first)


def to_png(image: Images, text: Mapping[str, str] | None = None) -> bytes:
    """Encode one image uint8 [H, W, 3] as an uncompressed PNG: ciphertexts do not compress, and this is fast.

    text: written as tEXt chunks (Latin-1, keywords of 1 to 79 characters). Raises ValueError for another array.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be uint8 [H, W, 3]; got {image.dtype} {list(image.shape)}")
    height, width, _ = image.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # the first byte of each row is its filter type, 0 for none
    rows[:, 1:] = image.reshape(height, 3 * width)
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    for keyword, value in (text or {}).items():
        chunks.append(_chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + value.encode("latin-1")))
    chunks += [_chunk(b"IDAT", zlib.compress(rows.tobytes(), 0)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
