"""Networks that see one pixel at a time, with separate weights for each pixel (ITN) or shared weights (GAN) [P].

The paper uses three 1x1 locally connected layers because the key differs from pixel to pixel; the normalisation between
them is reconstructed [R]. A layer is one batched matrix product over all pixels.
"""

import math

import torch
from torch import Tensor, nn

from unveil.models.networks.linear_init import init_linear_colors


class LocallyConnected(nn.Module):
    """1x1 locally connected layer: [P, N, inputs] -> [P, N, outputs], separate weights for each of the P pixels."""

    def __init__(self, pixels: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(pixels, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(pixels, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class _PixelNorm(nn.BatchNorm1d):
    """Batch normalisation of [P, N, C] over pixels and images; the layer after it provides scale and shift."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(-1, x.shape[-1])).view(x.shape)


class PixelwiseInverse(nn.Module):
    """Locally connected layers 3 - channels - channels - 3 with BN and ReLU between them, for one image size.

    float [N, 3, height, width] in -1..1 -> the same shape, unbounded. The paper's number of channels is illegible, so
    it is a parameter [R].
    """

    def __init__(self, height: int, width: int, channels: int) -> None:
        super().__init__()
        pixels = height * width
        self.layers = nn.Sequential(
            LocallyConnected(pixels, 3, channels), _PixelNorm(channels), nn.ReLU(inplace=True),
            LocallyConnected(pixels, channels, channels), _PixelNorm(channels), nn.ReLU(inplace=True),
            LocallyConnected(pixels, channels, 3),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        n, c, height, width = images.shape
        x = images.permute(2, 3, 0, 1).reshape(height * width, n, c)
        return self.layers(x).view(height, width, n, c).permute(2, 3, 0, 1)


class PixelwiseGenerator(nn.Module):
    """1x1 convolutions 3 - 64 - 128 - 256 - 3 with BN and ReLU between them, tanh: the paper's GAN generator [P].

    float [N, 3, H, W] in -1..1 -> the same. Other widths keep the ratio.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(4 * width, 3, 1), nn.Tanh())

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)

    def init_linear(self, protected: Tensor, plain: Tensor) -> None:
        """Initialise by `init_linear_colors`; protected, plain: float [N, 3, H, W] in -1..1, unpaired."""
        init_linear_colors(self.layers, protected, plain)
