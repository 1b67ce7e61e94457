"""Small plain images for tests of the science: cut from the bundled sample."""

from __future__ import annotations

import numpy as np

from unveil.models.core.images import Images
from unveil.models.data.sample import sample


def photographs(count: int, height: int = 96, width: int = 96) -> Images:
    """The first test photographs, cropped from the top left corner: uint8 [count, height, width, 3]."""
    return sample().test[:count, :height, :width].copy()


def make_mosaic(height: int, width: int) -> Images:
    """One large picture of the test photographs side by side: uint8 [1, height, width, 3]."""
    photos = sample().test
    across = -(-width // 96)
    rows = [
        np.concatenate([photos[(y * across + x) % len(photos)] for x in range(across)], 1)
        for y in range(-(-height // 96))
    ]
    return np.concatenate(rows)[None, :height, :width].copy()
