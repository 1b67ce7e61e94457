"""HEIC images in Pillow, by libheif. Pillow reads AVIF itself."""

from __future__ import annotations

from functools import cache

from PIL import Image


@cache
def register_reader() -> None:
    """Raises ImportError where the package is not installed."""
    import pi_heif

    pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)


def stored_bits(image: Image.Image) -> int:
    """Bits of a channel in the file: 8, 10 or 12. Pillow has 8."""
    return int(image.info.get("bit_depth", 8))


def was_turned(image: Image.Image) -> bool:
    """Whether libheif turned the image upright."""
    return image.info.get("original_orientation") not in (None, 1)
