"""An encoder of images to unit vectors, for plain and for protected images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_GRID = 6  # cells a side of the last feature map
_STEM = 16  # channels of the layers that see one pixel


class LinkEncoder(nn.Module):
    """float [N, 3, H, W] in -1..1 -> unit vectors [N, dimensions].

    The first layers see one pixel: its values and its sorted magnitudes, which pixel-wise encryption keeps under every
    key. Then one 4x4 block, then its surroundings, with positions kept on a 6x6 grid.
    """

    def __init__(self, width: int, dimensions: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(6, _STEM, 1), nn.ReLU(inplace=True),
            *_layer(_STEM, width, 4, stride=4), *_layer(width, width, 1),
            *_layer(width, 2 * width, 3, stride=2), *_layer(2 * width, 2 * width, 3, stride=2),
            nn.AdaptiveAvgPool2d(_GRID), nn.Flatten(),
        )  # fmt: skip
        self.project = nn.Linear(2 * width * _GRID**2, dimensions)

    def forward(self, images: Tensor) -> Tensor:
        magnitudes = images.abs().sort(dim=1).values
        vectors = self.project(self.features(torch.cat([images, magnitudes], dim=1)))
        return F.normalize(vectors.float(), dim=1)


def _layer(inputs: int, outputs: int, side: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, side, stride, padding=side // 2 if side % 2 else 0, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
