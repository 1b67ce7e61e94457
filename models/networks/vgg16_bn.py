"""VGG-16 with batch normalisation and a small head: the second classifier of TN-model's authors [C]."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

MIN_SIDE = 32  # pixels a side: five halvings
_EARLY_LAYERS = 13  # up to the second pair of convolutions, as features[:9] of VGG-16 without normalisation


class Vgg16Bn(nn.Module):
    """torchvision's 13 convolutions, global average, one linear layer.

    float [N, 3, H, W] of at least 32x32 -> logits [N, classes]. With 10 classes: 14,728,266 weights.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers = make_layers(cfgs["D"], batch_norm=True)
        self.early, self.late = layers[:_EARLY_LAYERS], layers[_EARLY_LAYERS:]
        self.head = nn.Linear(512, classes)

    def features(self, images: Tensor) -> Tensor:
        """After the second pair of convolutions: float [N, 128, H / 2, W / 2]."""
        return self.early(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.late(self.early(images)).mean((2, 3)))
