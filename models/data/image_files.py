"""Image files as uint8 RGB arrays: decoding, transparency, 16-bit grey, and the crop to one size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from unveil.models.core.images import Images


def open_image(path: Path) -> Images:
    """One image file as uint8 [H, W, 3], turned upright by its EXIF orientation."""
    with Image.open(path) as image:
        return to_rgb(ImageOps.exif_transpose(image))


def center_crop_resize(image: Images, size: int) -> Images:
    """Crop one image [H, W, 3] to its central square and resize it to size x size (Lanczos)."""
    height, width, _ = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(square)
    return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.LANCZOS))


def to_rgb(image: Image.Image) -> Images:
    """A Pillow image as uint8 [H, W, 3]: 16-bit grey is scaled to 8 bits, transparency composited onto white."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow does not reduce to 8 bits
        image = _to_eight_bits(image)
    if has_transparency(image):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.array(image.convert("RGB"))


def has_transparency(image: Image.Image) -> bool:
    """Whether the image has an alpha channel or a transparent colour."""
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _to_eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.uint32)
    grey = Image.fromarray((values >> 8).astype(np.uint8))  # as Pillow reduces 16-bit colour
    transparent_value = image.info.get("transparency")
    if isinstance(transparent_value, int):
        grey = Image.merge(
            "LA", (grey, Image.fromarray(np.where(values == transparent_value, 0, 255).astype(np.uint8)))
        )
    return grey
