"""Small plain images for tests, cut from the bundled sample."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unveil.models.core.images import Images
from unveil.models.data.sample import sample


def photographs(count: int, height: int = 96, width: int = 96) -> Images:
    """The first test photographs, cropped from the top left corner: uint8 [count, height, width, 3]."""
    return sample().test[:count, :height, :width].copy()


def as_tensor(images: Images) -> Tensor:
    """uint8 [N, H, W, 3] -> uint8 [N, 3, H, W]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def make_mosaic(height: int, width: int) -> Images:
    """One large image of test photographs side by side: uint8 [1, height, width, 3]."""
    photos = sample().test
    across = -(-width // 96)
    rows = [
        np.concatenate([photos[(y * across + x) % len(photos)] for x in range(across)], 1)
        for y in range(-(-height // 96))
    ]
    return np.concatenate(rows)[None, :height, :width].copy()
