"""SSIM with a gradient, as a training loss; equal to mode rgb7 of `unveil.models.metrics.ssim`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_SAMPLE_COVARIANCE_FACTOR = 49 / 48


def ssim_rgb7(x: Tensor, y: Tensor) -> Tensor:
    """SSIM of float [N, 3, H, W] in 0..255 -> [N], equal to scikit-image's within 1e-4; H and W at least 7."""
    x, y = (images.contiguous() - 127.5 for images in (x, y))  # centred: float32 loses small variances of large values
    mx, xx, xy = torch.split(_mean7(torch.cat([x, x * x, x * y])), len(x))
    my, yy = torch.split(_mean7(torch.cat([y, y * y])), len(y))  # separate: plain images need no gradient
    vx, vy, vxy = (
        (xx - mx * mx) * _SAMPLE_COVARIANCE_FACTOR,
        (yy - my * my) * _SAMPLE_COVARIANCE_FACTOR,
        (xy - mx * my) * _SAMPLE_COVARIANCE_FACTOR,
    )
    mx, my = mx + 127.5, my + 127.5
    value = (2 * mx * my + _C1) * (2 * vxy + _C2) / ((mx * mx + my * my + _C1) * (vx + vy + _C2))
    return value.mean((1, 2, 3))


def _mean7(x: Tensor) -> Tensor:
    """The mean of each full 7x7 window."""
    mean: Tensor = _Sum7.apply(x)  # type: ignore[no-untyped-call]
    return mean / 49


class _Sum7(torch.autograd.Function):
    """Sums of 7x7 windows by shifted additions, many times faster on a CPU than average pooling."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        return _sum7(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return _sum7(F.pad(gradient, (6, 6, 6, 6)))  # the window is symmetric


def _sum7(x: Tensor) -> Tensor:
    for dim in (2, 3):
        count = x.shape[dim] - 6
        two = x.narrow(dim, 0, count + 5) + x.narrow(dim, 1, count + 5)
        four = two.narrow(dim, 0, count + 2) + two.narrow(dim, 2, count + 2)
        x = (four.narrow(dim, 0, count) + two.narrow(dim, 4, count)).add_(x.narrow(dim, 6, count))
    return x
