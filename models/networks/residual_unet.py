"""The networks of `itn-strong`: linear inverses for schemes of known structure, a residual U-Net for others [M].

The attacker knows the algorithm and not the key. Tanaka's scheme moves and inverts nibbles, so the inverse of a block
is linear in its nibbles. Pixel-wise encryption inverts and swaps channels, so the inverse of a pixel is linear.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.models.networks.block_network import BLOCK, from_blocks, to_blocks
from unveil.models.networks.locally_connected import LocallyConnected

SIZE_MULTIPLE = 8  # a pixel unshuffle by 2 and two further halvings


class NibbleLinear(nn.Module):
    """One linear map from the 96 nibbles of a block to its 48 values, shared by all blocks.

    float [N, 3, H, W] in -1..1, sides multiples of 4 -> the same shape, unbounded.
    """

    def __init__(self) -> None:
        super().__init__()
        values = 3 * BLOCK * BLOCK
        self.linear = nn.Linear(2 * values, values)

    def forward(self, images: Tensor) -> Tensor:
        values = (to_blocks(images).float() + 1) * 127.5
        upper = ((values + 0.5) / 16).floor()
        nibbles = torch.cat([values - 16 * upper, upper], 1) / 7.5 - 1
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 cannot resolve lower nibbles
            return from_blocks(self.linear(nibbles), images.shape)


class PixelLinear(nn.Module):
    """A separate linear map of the three channels of every pixel: float [N, 3, height, width] -> the same shape."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.linear = LocallyConnected(height * width, 3, 3)

    def forward(self, images: Tensor) -> Tensor:
        n, c, height, width = images.shape
        with torch.autocast(images.device.type, enabled=False):
            x = self.linear(images.permute(2, 3, 0, 1).reshape(height * width, n, c))
        return x.view(height, width, n, c).permute(2, 3, 0, 1)


class _Block(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class ResidualUNet(nn.Module):
    """Residual U-Net at 1/2, 1/4 and 1/8 of the image size, because full resolution costs a CPU too much.

    float [N, 3, H, W] of any size -> the same shape, unbounded.
    """

    def __init__(self, width: int = 64, blocks: int = 2) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width]

        def level(channels: int) -> nn.Module:
            return nn.Sequential(*[_Block(channels) for _ in range(blocks)])

        self.stem = nn.Conv2d(12, width, 3, padding=1)
        self.before = nn.ModuleList([level(w) for w in widths])
        self.down = nn.ModuleList([nn.Conv2d(4 * w, 2 * w, 1) for w in widths[:-1]])
        self.up = nn.ModuleList([nn.Conv2d(2 * w, 4 * w, 1) for w in reversed(widths[:-1])])
        self.after = nn.ModuleList([level(w) for w in reversed(widths[:-1])])
        self.head = nn.Conv2d(width, 12, 1)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        x = F.pad(images, (0, -width % SIZE_MULTIPLE, 0, -height % SIZE_MULTIPLE), mode="replicate")
        x = self.before[0](self.stem(F.pixel_unshuffle(x, 2)))
        skipped = []
        for down, block in zip(self.down, self.before[1:], strict=True):
            skipped.append(x)
            x = block(down(F.pixel_unshuffle(x, 2)))
        for up, block in zip(self.up, self.after, strict=True):
            x = block(skipped.pop() + F.pixel_shuffle(up(x), 2))
        return F.pixel_shuffle(self.head(x), 2)[:, :, :height, :width]
