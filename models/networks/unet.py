"""U-Net from 3 to 3 channels: TN-model's transformation network, and the inverse for schemes without their own [C]."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.models.networks.linear_init import init_linear_colors

SIZE_MULTIPLE = 16  # four halvings; other sizes are padded by edge replication and cropped afterwards


class _DoubleConv(nn.Sequential):
    """Two times: 3x3 convolution, BN, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(*_conv(inputs, outputs), *_conv(outputs, outputs))


def _conv(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class UNet(nn.Module):
    """Encoder of widths width x (1, 2, 4, 8, 16) with max-pools; decoder of nearest x2, convolution, concatenation.

    float [N, 3, H, W] in -1..1 of any size -> the same shape, unbounded. The paper's width 64 has 34,527,171 weights.
    unshuffle_factor: a pixel unshuffle before the network and a pixel shuffle after it; the paper's is 1.
    """

    def __init__(self, width: int = 64, fold: int = 1) -> None:
        super().__init__()
        self.fold, channels = fold, 3 * fold**2
        widths = [width * 2**i for i in range(5)]
        self.down = nn.ModuleList([_DoubleConv(i, o) for i, o in zip([channels, *widths], widths, strict=False)])
        self.up = nn.ModuleList([nn.Sequential(*_conv(2 * w, w)) for w in reversed(widths[:-1])])
        self.join = nn.ModuleList([_DoubleConv(2 * w, w) for w in reversed(widths[:-1])])
        self.head = nn.Conv2d(width, channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        multiple = SIZE_MULTIPLE * self.fold
        x = F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        x = F.pixel_unshuffle(x, self.fold)
        skipped: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skipped.append(x)
        skipped.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([skipped.pop(), up(F.interpolate(x, scale_factor=2.0, mode="nearest"))], 1))
        return F.pixel_shuffle(self.head(x), self.fold)[:, :, :height, :width]


class SigmoidUNet(UNet):
    """TN-model's network: a sigmoid at the end, rescaled to -1..1."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).float().sigmoid() * 2 - 1


class UNetGenerator(UNet):
    """The generator of the GAN attack: a tanh at the end."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).tanh()

    def init_linear(self, protected: Tensor, plain: Tensor) -> None:
        """Initialise the path through the first skip connection by `init_linear_colors`."""
        init_linear_colors([*self.down[0].modules(), *self.join[-1].modules(), self.head], protected, plain)
