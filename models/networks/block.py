"""The block network: one small network for every 4x4 block (paper section 5.1; SCIENCE section 3) [P][C].

Convolutions with kernel and stride 4, and 1x1 after them, see one block at a time: rows of a matrix. So they are linear
layers here, with batch normalisation over all blocks, which is the same network and several times faster on a CPU.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK = 4


def to_blocks(images: Tensor) -> Tensor:
    """[N, 3, H, W], sides multiples of 4 -> [N * H/4 * W/4, 48], in (row, column, channel) order."""
    n, c, height, width = images.shape
    blocks = images.permute(0, 2, 3, 1).reshape(n, height // BLOCK, BLOCK, width // BLOCK, BLOCK, c)
    return blocks.transpose(2, 3).reshape(-1, BLOCK * BLOCK * c)


def from_blocks(blocks: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `to_blocks`; shape: of the images."""
    n, c, height, width = shape
    blocks = blocks.reshape(n, height // BLOCK, width // BLOCK, BLOCK, BLOCK, c)
    return blocks.transpose(2, 3).reshape(n, height, width, c).permute(0, 3, 1, 2)


class BlockNetwork(nn.Module):
    """4x4/4 to 48, BN, ReLU; 1x1 to 48, BN, ReLU; 1x1 to 512, BN, ReLU; pixel shuffle by 4 to 32; 1x1 to 3.

    float [N, 3, H, W] in -1..1, sides multiples of 4 -> the same, by tanh where `squash` (the GAN's generator).
    """

    def __init__(self, *, squash: bool = False, hidden: int = 48, wide: int = 512) -> None:
        super().__init__()
        pixels = BLOCK * BLOCK
        layers: list[nn.Module] = []
        for inputs, outputs in ((3 * pixels, hidden), (hidden, hidden), (hidden, wide)):
            layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(wide // pixels, 3)
        self.squash = squash

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(to_blocks(images))
        # The pixel shuffle: a block's features are dealt out to its 16 pixels.
        pixels = self.head(features.view(len(features) * BLOCK * BLOCK, -1))
        out = from_blocks(pixels, images.shape)
        return out.tanh() if self.squash else out


@torch.no_grad()
def start_linear(network: BlockNetwork, protected: Tensor, plain: Tensor) -> None:
    """Random weights become a linear map of blocks [N, 48] like `protected` to such as have the covariance of `plain`.

    Of all these maps the one that moves them least (optimal transport between Gaussians), as far as half of the hidden
    units can tell: units in pairs of opposite weights are linear in spite of ReLU (Balduzzi et al. 2017). Those of the
    first layer are the blocks' principal components, so that after batch normalisation details are as large as the
    mean. Neither knows which protected block belongs to which plain one.
    """
    first, second, third = (layer.weight for layer in network.body if isinstance(layer, nn.Linear))
    half, channels, features = len(first) // 2, len(network.head.weight), network.head.in_features // 2
    covariance = torch.cov(protected.T)
    variances, vectors = torch.linalg.eigh(covariance)
    components, deviations = vectors.T.flip(0)[:half], variances.flip(0)[:half].clamp_min(0).sqrt()
    transport = _transport(covariance, torch.cov(plain.T))
    each = third.view(BLOCK * BLOCK, -1, len(second))[:, :features, :half].clone()  # pixel, feature, component
    each *= deviations
    each[:, :channels] = (transport @ (components.T * deviations)).view(BLOCK * BLOCK, channels, half)
    for weight, start in (
        (first, torch.cat([components, -components])),
        (second, _opposite(torch.eye(half))),
        (third, torch.cat([_opposite(pixel) for pixel in each])),
    ):  # as long as they were: the learning rate is large or small beside them
        weight.copy_(F.normalize(start) * weight.norm(dim=1, keepdim=True))
    network.head.weight.copy_(_opposite(network.head.weight[:, :features])[:channels])
    contrast = plain.view(-1, channels).std(0)
    network.head.weight[:, :channels] = torch.diag(contrast)
    network.head.weight[:, features : features + channels] = -torch.diag(contrast)


def _opposite(weights: Tensor) -> Tensor:
    """For pairs of opposite units, [outputs, inputs] -> [2 * outputs, 2 * inputs]."""
    return torch.cat([torch.cat([weights, -weights], 1), torch.cat([-weights, weights], 1)])


def _transport(covariance: Tensor, wanted: Tensor) -> Tensor:
    """The symmetric matrix T with T covariance T = wanted."""
    root = _power(covariance, 0.5)
    inverse = _power(covariance, -0.5)
    return inverse @ _power(root @ wanted @ root, 0.5) @ inverse


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp_min(1e-6 * float(values[-1]) + 1e-12) ** exponent @ vectors.T
