"""SSIM that a network can learn from: as the metric's rgb7 (SCIENCE section 5), with a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_SAMPLE_COVARIANCE_FACTOR = 49 / 48  # sample covariance


def ssim_rgb7(x: Tensor, y: Tensor) -> Tensor:
    """As scikit-image's: float [N, 3, H, W] in 0..255 -> [N]."""
    x, y = (images.contiguous() - 127.5 for images in (x, y))  # float32 keeps variances only near zero mean
    mx, xx, xy = torch.split(_mean7(torch.cat([x, x * x, x * y])), len(x))
    my, yy = torch.split(_mean7(torch.cat([y, y * y])), len(y))  # apart: the plain images need no gradient
    vx, vy, vxy = (
        (xx - mx * mx) * _SAMPLE_COVARIANCE_FACTOR,
        (yy - my * my) * _SAMPLE_COVARIANCE_FACTOR,
        (xy - mx * my) * _SAMPLE_COVARIANCE_FACTOR,
    )
    mx, my = mx + 127.5, my + 127.5
    value = (2 * mx * my + _C1) * (2 * vxy + _C2) / ((mx * mx + my * my + _C1) * (vx + vy + _C2))
    return value.mean((1, 2, 3))


def _mean7(x: Tensor) -> Tensor:
    """The mean over each full 7x7 window."""
    mean: Tensor = _Sum7.apply(x)  # type: ignore[no-untyped-call]
    return mean / 49


class _Sum7(torch.autograd.Function):
    """Shifted sums of whole images: a CPU's average pooling goes from window to window, many times slower."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        return _sum7(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return _sum7(F.pad(gradient, (6, 6, 6, 6)))  # a window is its own mirror image


def _sum7(x: Tensor) -> Tensor:
    for dim in (2, 3):
        count = x.shape[dim] - 6
        two = x.narrow(dim, 0, count + 5) + x.narrow(dim, 1, count + 5)
        four = two.narrow(dim, 0, count + 2) + two.narrow(dim, 2, count + 2)
        x = (four.narrow(dim, 0, count) + two.narrow(dim, 4, count)).add_(x.narrow(dim, 6, count))
    return x
