"""Small plain images for tests of the science: cut from the bundled sample."""

from __future__ import annotations

from models.datasets import sample
from models.images import Images


def photographs(count: int, height: int = 96, width: int = 96) -> Images:
    """The first test photographs, cropped from the top left corner: uint8 [count, height, width, 3]."""
    return sample().test[:count, :height, :width].copy()
