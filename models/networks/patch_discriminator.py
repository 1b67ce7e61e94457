"""The discriminator of the paper's GAN attack [C]."""

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

MIN_SIDE = 16  # pixels a side: two strides of 2, a 4x4 kernel, a max-pool of 3


class PatchDiscriminator(nn.Module):
    """4x4/2 to 64, LeakyReLU; spectral-norm 4x4/2 to 128, LeakyReLU; 4x4/1 to 1; max-pool 3.

    float [N, 3, H, W] in -1..1 -> a map of logits, [N, 1, 7, 7] for 96x96; the authors' program, for 32x32, has one
    logit. pool=1 removes the max-pool: the loss then counts every patch, not the most plausible of nine.
    """

    def __init__(self, width: int = 64, pool: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1),
            nn.LeakyReLU(0.2, inplace=True),
            spectral_norm(nn.Conv2d(width, 2 * width, 4, 2, 1)),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * width, 1, 4, 1, 1),
            nn.MaxPool2d(pool),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)
