"""The networks of CycleGAN (Zhu et al. 2017), as TN-GAN uses them [R]."""

import torch
from torch import Tensor, nn


def _conv(inputs: int, outputs: int, side: int, stride: int = 1) -> list[nn.Module]:
    pad = (side - 1) // 2
    return [
        nn.Conv2d(inputs, outputs, side, stride, pad, bias=False, padding_mode="reflect"),
        nn.InstanceNorm2d(outputs),
    ]


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_conv(width, width, 3), nn.ReLU(inplace=True), *_conv(width, width, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _Up(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1, bias=False),
            nn.InstanceNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class ResNetGenerator(nn.Module):
    """7x7 to width; two halvings; residual blocks; two doublings; 7x7 to 3, tanh.

    float [N, 3, H, W] in -1..1, sides multiples of 4 -> the same. Width 64 and 6 blocks: 7,833,987 weights.
    """

    def __init__(self, width: int = 64, blocks: int = 6) -> None:
        super().__init__()
        relu = nn.ReLU(inplace=True)
        self.layers = nn.Sequential(
            *_conv(3, width, 7), relu,
            *_conv(width, 2 * width, 3, 2), relu,
            *_conv(2 * width, 4 * width, 3, 2), relu,
            *(_Residual(4 * width) for _ in range(blocks)),
            _Up(4 * width, 2 * width),
            _Up(2 * width, width),
            nn.Conv2d(width, 3, 7, padding=3, padding_mode="reflect"),
            nn.Tanh(),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class PatchGan(nn.Module):
    """The 70x70 PatchGAN discriminator: 4x4 convolutions 64-128-256-512-1, the first three of stride 2; LeakyReLU 0.2.

    float [N, 3, H, W] in -1..1 -> a map of scores, one for each 70x70 patch.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        for inputs, outputs, stride in zip(widths, widths[1:], (2, 2, 1), strict=False):
            layers += [
                nn.Conv2d(inputs, outputs, 4, stride, 1, bias=False),
                nn.InstanceNorm2d(outputs),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def cyclegan_init(module: nn.Module) -> None:
    """Draw the weights of a convolution from N(0, 0.02); for `nn.Module.apply`."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def collect_parameters(*networks: nn.Module) -> list[torch.nn.Parameter]:
    return [p for network in networks for p in network.parameters()]
