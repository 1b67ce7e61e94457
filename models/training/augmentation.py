"""Augmentation of training images: flips and padded crops as by TN-model's authors [C], and random square crops."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def flip_and_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Mirror images with probability 1/2 and shift them by up to `padding` pixels into black: uint8 [N, H, W, 3].

    Random numbers come from `generator`, on the CPU.
    """
    count, height, width, channels = images.shape
    down, right = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator)
    mirror = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    padded = F.pad(images, (0, 0, padding, padding, padding, padding)).contiguous()
    high, wide = padded.shape[1:3]
    # A view of all overlapping row segments, so that the crop copies whole rows.
    rows = padded.as_strided((count * high * wide - width + 1, width * channels), (channels, 1))
    first = (torch.arange(count)[:, None] * high + down + torch.arange(height)) * wide + right
    moved = rows.index_select(0, first.flatten().to(images.device)).view(images.shape)
    return torch.where(mirror.to(images.device), moved.flip(2), moved)


def random_square_crop(images: Tensor, side: int | None, multiple: int, generator: torch.Generator) -> Tensor:
    """The same random square of all images [N, H, W, 3], its corner and side rounded down to multiples of `multiple`.

    side: in pixels; None, or a side as long as theirs, returns the whole images.
    """
    if side is None:
        return images
    side = max(multiple, side // multiple * multiple)
    top, left = (
        multiple * int(torch.randint(max(0, length - side) // multiple + 1, (), generator=generator))
        for length in images.shape[1:3]
    )
    return images[:, top : top + side, left : left + side]
