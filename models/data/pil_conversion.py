"""From a picture as Pillow decodes it to the 8-bit RGB that everything here works on."""

from __future__ import annotations

import numpy as np
from PIL import Image

from unveil.models.core.images import Images


def rgb(picture: Image.Image) -> Images:
    """[H, W, 3]: 16-bit grey scaled to 8 bits, transparency dropped onto white."""
    if picture.mode.startswith("I"):  # the one 16-bit kind that the decoder leaves as it is
        picture = _eight_bits(picture)
    if transparent(picture):
        seen = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    return np.array(picture.convert("RGB"))


def transparent(picture: Image.Image) -> bool:
    return picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info


def _eight_bits(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture).astype(np.uint32)
    grey = Image.fromarray((values >> 8).astype(np.uint8))  # as the decoder itself does for 16-bit colour
    hidden = picture.info.get("transparency")
    if isinstance(hidden, int):
        grey = Image.merge("LA", (grey, Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8))))
    return grey
