"""From a picture as Pillow decodes it to the 8-bit RGB that everything here works on."""

from __future__ import annotations

import numpy as np
from PIL import Image

from unveil.models.core.images import Images


def to_rgb(image: Image.Image) -> Images:
    """[H, W, 3]: 16-bit grey scaled to 8 bits, transparency dropped onto white."""
    if image.mode.startswith("I"):  # the one 16-bit kind that the decoder leaves as it is
        image = _to_eight_bits(image)
    if has_transparency(image):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.array(image.convert("RGB"))


def has_transparency(image: Image.Image) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _to_eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.uint32)
    grey = Image.fromarray((values >> 8).astype(np.uint8))  # as the decoder itself does for 16-bit colour
    transparent_value = image.info.get("transparency")
    if isinstance(transparent_value, int):
        grey = Image.merge(
            "LA", (grey, Image.fromarray(np.where(values == transparent_value, 0, 255).astype(np.uint8)))
        )
    return grey
