"""The block network: one small network applied to every 4x4 block (paper section 5.1) [P][C].

Convolutions with kernel and stride 4, followed by 1x1 convolutions, see one block at a time. They are implemented as
linear layers over a matrix of blocks, with batch normalisation over all blocks: the same function, and several times
faster on a CPU.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.models.networks.linear_init import RELU_OFFSET, fit_optimal_transport

BLOCK = 4


def to_blocks(images: Tensor) -> Tensor:
    """[N, 3, H, W], sides multiples of 4 -> [N * H/4 * W/4, 48], in (row, column, channel) order."""
    n, c, height, width = images.shape
    blocks = images.permute(0, 2, 3, 1).reshape(n, height // BLOCK, BLOCK, width // BLOCK, BLOCK, c)
    return blocks.transpose(2, 3).reshape(-1, BLOCK * BLOCK * c)


def from_blocks(blocks: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `to_blocks`; shape: that of the images, [N, 3, H, W]."""
    n, c, height, width = shape
    blocks = blocks.reshape(n, height // BLOCK, width // BLOCK, BLOCK, BLOCK, c)
    return blocks.transpose(2, 3).reshape(n, height, width, c).permute(0, 3, 1, 2)


class BlockNetwork(nn.Module):
    """4x4/4 to 48, BN, ReLU; 1x1 to 48, BN, ReLU; 1x1 to 512, BN, ReLU; pixel shuffle by 4 to 32; 1x1 to 3.

    float [N, 3, H, W] in -1..1, sides multiples of 4 -> the same shape, unbounded, or in -1..1 by a tanh if `squash`
    (the generator of the GAN attack).
    """

    def __init__(self, *, output_tanh: bool = False, hidden: int = 48, wide: int = 512) -> None:
        super().__init__()
        pixels = BLOCK * BLOCK
        layers: list[nn.Module] = []
        for inputs, outputs in ((3 * pixels, hidden), (hidden, hidden), (hidden, wide)):
            layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(wide // pixels, 3)
        self.output_tanh = output_tanh

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(to_blocks(images))
        # The pixel shuffle: each of the 16 pixels of a block takes its share of the features.
        pixels = self.head(features.view(len(features) * BLOCK * BLOCK, -1))
        out = from_blocks(pixels, images.shape)
        return out.tanh() if self.output_tanh else out

    @torch.no_grad()
    def init_linear(self, protected: Tensor, plain: Tensor) -> None:
        """Initialise as the linear map from blocks of `protected` to the block covariance of `plain` [M].

        protected, plain: float [N, 3, H, W], unpaired. The hidden units are the principal components of the blocks, so
        that batch normalisation makes details as large as the mean. The first three features of each pixel carry its
        colour; the head ignores the other features at first, and these stay random.
        """
        layers = [layer for layer in self.body if isinstance(layer, nn.Linear)]
        norms = [norm for norm in self.body if isinstance(norm, nn.BatchNorm1d)]
        public, channels = to_blocks(plain), len(self.head.weight)
        components, decoder = fit_optimal_transport(to_blocks(protected), public)
        hidden = len(components)
        third = layers[2].weight.view(BLOCK * BLOCK, -1, hidden).clone()  # pixel, feature, component
        third[:, :channels] = decoder.view(BLOCK * BLOCK, channels, hidden)
        for layer, start in zip(layers, (components, torch.eye(hidden), third.flatten(0, 1)), strict=True):
            # keep the norm, to which the learning rate is relative
            layer.weight.copy_(F.normalize(start) * layer.weight.norm(dim=1, keepdim=True))
        colours = norms[2].bias.view(BLOCK * BLOCK, -1)[:, :channels]
        for bias in (norms[0].bias, norms[1].bias, colours):
            bias.fill_(RELU_OFFSET)
        contrast = public.view(-1, channels).std(0)
        self.head.weight.zero_()
        self.head.weight[:, :channels] = torch.diag(contrast)
        self.head.bias.copy_(-RELU_OFFSET * contrast)
