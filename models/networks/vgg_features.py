"""The visual features that TN-model changes: early layers of VGG-16, trained on ImageNet [C]."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import VGG16_Weights, vgg16

_LAYERS = 9  # two pairs of convolutions with ReLU, a max-pool between


class WeightsMissing(LookupError):
    """torchvision's weights are missing and the download failed; the message names the folder for them."""


class VggFeatures(nn.Module):
    """float [N, 3, H, W] in -1..1 -> [N, 128, H / 2, W / 2]. Raises WeightsMissing."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1) * 2 - 1)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) * 2)
        try:
            self.layers = vgg16(weights=VGG16_Weights.IMAGENET1K_V1, progress=False).features[:_LAYERS]
        except OSError as error:  # no network connection, or the server refuses
            raise WeightsMissing(
                f"the download of torchvision's VGG-16 weights failed ({type(error).__name__}: {error}); put "
                f"{VGG16_Weights.IMAGENET1K_V1.url.rpartition('/')[2]} into {torch.hub.get_dir()}/checkpoints"
            ) from error

    def forward(self, images: Tensor) -> Tensor:
        return self.layers((images - self.mean) / self.std)
