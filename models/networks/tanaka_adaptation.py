"""The adaptation network in front of a classifier of Tanaka's protected images (Tanaka 2018).

Its convolutions see one block at a time and are linear layers here, as in the block network.
"""

import torch
from torch import Tensor, nn

from unveil.models.networks.block_network import BLOCK, from_blocks, to_blocks


class Adaptation(nn.Module):
    """4x4/4 to 48, ReLU, BN; 1x1 to 48, ReLU, BN; 1x1 to `wide`; pixel shuffle by 4 to wide / 16 channels.

    float [N, 3, H, W] in -1..1, sides multiples of 4 -> [N, wide / 16, H, W].
    """

    def __init__(self, wide: int = 512, hidden: int = 48) -> None:
        super().__init__()
        pixels = BLOCK * BLOCK
        if wide % pixels:
            raise ValueError(f"wide must be a multiple of {pixels}; got {wide}")
        layers: list[nn.Module] = []
        for inputs in (3 * pixels, hidden):
            layers += [nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.BatchNorm1d(hidden)]
        self.body = nn.Sequential(*layers, nn.Linear(hidden, wide))
        self.channels = wide // pixels

    def forward(self, images: Tensor) -> Tensor:
        n, _, height, width = images.shape
        return from_blocks(self.body(to_blocks(images)), torch.Size((n, self.channels, height, width)))
