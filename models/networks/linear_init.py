"""Initialisation of a generator as a linear map: its first outputs have the covariance of public images [M].

Among all such maps it takes the one that moves values least (optimal transport between Gaussians). Convolutions with
batch normalisation and ReLU between them are linear as long as the normalised values stay positive.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RELU_OFFSET = 3.0  # standard deviations: of Gaussian values, ReLU then clips one in a thousand


class OptimalTransportMap(NamedTuple):
    """A linear map through principal components: y = decoder @ (components @ x) for centred x."""

    components: Tensor  # [K, C], unit vectors, largest variance first
    decoder: Tensor  # [C, K], for components of unit variance, as after batch normalisation


def fit_optimal_transport(protected: Tensor, plain: Tensor) -> OptimalTransportMap:
    """Fit the map from rows [N, C] with the covariance of `protected` to rows with the covariance of `plain`."""
    covariance, target_covariance = (
        torch.cov(rows.T).double() for rows in (protected, plain)
    )  # float64: variances differ by a factor of a million
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
    """Initialise a path of convolutions, batch normalisations and ReLU as the linear map of colours.

    modules: the modules of the path in order; other kinds are ignored. protected, plain: float [N, 3, H, W], unpaired.
    The first three channels of each layer (or all, if it has fewer) carry the colour and depend on nothing else, and
    the last layer reads only these. The other channels keep their random weights.
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
        length = rows.flatten(1).norm(dim=1).mean()  # keep the norm, to which the learning rate is relative
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
