"""ResNet-20 for small images (He et al. 2016, section 4.2): the classifier of TN-model and of utility [C]."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS_PER_STAGE = 3  # in each of the three stages: 6n + 2 = 20 layers


class _Block(nn.Module):
    """Two 3x3 convolutions; where the size halves, the shortcut subsamples and pads with zero channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride, self.extra_channels = 1 if inputs == outputs else 2, outputs - inputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        short = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra_channels))
        return F.relu(self.body(x) + short, inplace=True)


class ResNet20(nn.Module):
    """Three stages of three blocks with widths width x (1, 2, 4), global average, one linear layer.

    float [N, inputs, H, W] of any size -> logits [N, classes]. With width 16 and 10 classes: 269,722 weights.
    """

    def __init__(self, classes: int, width: int = 16, inputs: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        widths = [width, width, 2 * width, 4 * width]
        self.stages = nn.ModuleList(
            nn.Sequential(*[_Block(before if block == 0 else after, after) for block in range(BLOCKS_PER_STAGE)])
            for before, after in pairwise(widths)
        )
        self.head = nn.Linear(widths[-1], classes)

    def features(self, images: Tensor) -> Tensor:
        """After the first stage: float [N, width, H, W]."""
        return self.stages[0](self.stem(images))

    def forward(self, images: Tensor) -> Tensor:
        x = self.features(images)
        for stage in self.stages[1:]:
            x = stage(x)
        return self.head(x.mean((2, 3)))
