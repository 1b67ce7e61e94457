"""Generators that begin as a linear map: what they make has the covariance of public images from the first step on.

Of all such maps the one that moves values least (optimal transport between Gaussians). Convolutions with batch
normalisation and ReLU between them are linear where the normalised values are lifted above zero.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RELU_OFFSET = 3.0  # deviations: of values spread like a Gaussian, ReLU then cuts off one in a thousand


class OptimalTransportMap(NamedTuple):
    """The map, by way of the principal components of what it is for: outcome = decoder @ (components @ x), centred."""

    components: Tensor  # [K, C], of length 1, the strongest first
    decoder: Tensor  # [C, K], for components of deviation 1, as batch normalisation makes them


def fit_optimal_transport(protected: Tensor, plain: Tensor) -> OptimalTransportMap:
    """From rows [N, C] like `protected` to such as have the covariance of `plain`."""
    covariance, target_covariance = (
        torch.cov(rows.T).double() for rows in (protected, plain)
    )  # variances a million times apart
    variances, vectors = torch.linalg.eigh(covariance)
    root, inverse = _power(covariance, 0.5), _power(covariance, -0.5)
    symmetric = inverse @ _power(root @ target_covariance @ root, 0.5) @ inverse
    components, deviations = vectors.T.flip(0), variances.flip(0).clamp_min(0).sqrt()
    return OptimalTransportMap(components.float(), (symmetric @ (components.T * deviations)).float())


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp_min(1e-13 * float(values[-1]) + 1e-30) ** exponent @ vectors.T


@torch.no_grad()
def init_linear_colors(modules: Iterable[nn.Module], protected: Tensor, plain: Tensor) -> None:
    """Convolutions from colours to colours, batch normalisation and ReLU between, become the map of each colour.

    modules: of the way, in order, others among them. float [N, 3, H, W] both; none knows which protected image belongs
    to which plain one. The first three channels of each layer, or all where it has fewer, carry the colour and see
    nothing else; the last layer sees nothing else. The other channels begin at random.
    """
    layers = list(modules)
    *hidden, head = (module for module in layers if isinstance(module, nn.Conv2d))
    norms = [module for module in layers if isinstance(module, nn.BatchNorm2d)]
    components, decoder = fit_optimal_transport(_flatten_pixels(protected), _flatten_pixels(plain))
    carried_channels = min(len(components), *(layer.out_channels for layer in hidden))
    decoder = decoder[:, :carried_channels]
    starts = [components[:carried_channels], *[torch.eye(carried_channels)] * (len(hidden) - 1)]
    for layer, norm, start in zip(hidden, norms, starts, strict=True):
        rows = layer.weight[:carried_channels]
        length = rows.flatten(1).norm(dim=1).mean()  # as long as it was: the learning rate is large or small beside it
        rows.zero_()
        rows[:, : start.shape[1], rows.shape[2] // 2, rows.shape[3] // 2] = F.normalize(start) * length
        norm.weight[:carried_channels], norm.bias[:carried_channels] = 1, RELU_OFFSET
    head.weight.zero_()
    head.weight[:, :carried_channels, 0, 0] = decoder
    assert head.bias is not None
    head.bias.copy_(-RELU_OFFSET * decoder.sum(1))


def _flatten_pixels(images: Tensor) -> Tensor:
    """[N, C, H, W] -> [N * H * W, C]."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])
