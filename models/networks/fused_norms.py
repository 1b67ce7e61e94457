"""Normalisations of networks that learn on a CPU, each with the ReLU after it, as compiled loops.

PyTorch normalises few channels that lie last in memory many times slower than they can be read, and copies them there
and back for an instance normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from unveil.models.core import numba_kernels

_Norm = nn.BatchNorm2d | nn.InstanceNorm2d
_TYPES = (torch.bfloat16, torch.float32)
_Forward = Callable[[Tensor], Tensor]


class FusedNorms:
    """A context in which a network's normalisations are fast: the same numbers but for the order of sums.

    An activation that stands in several places stands behind a normalisation in all of them.
    """

    def __init__(self, network: nn.Module) -> None:
        self.forwards: dict[nn.Module, _Forward] = {}
        for chain in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
            for norm, after in pairwise([*chain, nn.Identity()]):
                if isinstance(norm, _Norm) and _pays(norm):
                    activation = after if isinstance(after, nn.ReLU | nn.LeakyReLU) else nn.Identity()
                    plain = norm.forward, activation.forward
                    self.forwards[norm] = partial(_normalised, norm, activation, plain)
                    self.forwards[activation] = _done

    def __enter__(self) -> None:
        for module, forward in self.forwards.items():
            vars(module)["forward"] = forward

    def __exit__(self, *_: object) -> None:
        for module in self.forwards:
            del vars(module)["forward"]


def _pays(norm: _Norm) -> bool:
    """Our loops are one thread's. For 16 channels and more, PyTorch's batch normalisation on two is as fast."""
    instance = isinstance(norm, nn.InstanceNorm2d)
    return numba_kernels.normalise is not None and torch.get_num_threads() <= 2 and (instance or norm.num_features < 16)


def _done(x: Tensor) -> Tensor:
    return x


def _normalised(norm: _Norm, activation: nn.Module, plain: tuple[_Forward, _Forward], x: Tensor) -> Tensor:
    """x normalised, and through the activation. plain: both as PyTorch has them."""
    groups = len(x) if isinstance(norm, nn.InstanceNorm2d) else 1
    pixels = x.numel() // (groups * x.shape[1])
    fits = x.dtype in _TYPES and x.is_contiguous(memory_format=torch.channels_last) and pixels > 1
    if not (fits and norm.training):
        normalise, activate = plain
        return activate(normalise(x))
    slope = 0.0 if isinstance(activation, nn.ReLU) else getattr(activation, "negative_slope", 1.0)
    out: Tensor
    out, mean, var = _Normalise.apply(x, norm.weight, norm.bias, norm.eps, slope, groups)  # type: ignore[no-untyped-call]
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        assert norm.momentum is not None
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean[0], norm.momentum)
        norm.running_var.lerp_(var[0] * (pixels / (pixels - 1)), norm.momentum)
    return out


class _Normalise(torch.autograd.Function):
    """bfloat16 or float32 [N, C, H, W], channels last -> the same, and mean and variance, float32 [groups, C]."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, slope: float, groups: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        channels = x.shape[1]
        weight = x.new_ones(channels, dtype=torch.float32) if weight is None else weight
        bias = x.new_zeros(channels, dtype=torch.float32) if bias is None else bias
        out, mean, var = torch.empty_like(x), torch.empty(groups, channels), torch.empty(groups, channels)
        numba_kernels.normalise(
            _bits(x, groups), weight.numpy(), bias.numpy(), eps, slope, _bits(out, groups), mean.numpy(), var.numpy()
        )
        ctx.save_for_backward(x, weight, bias, mean, var)
        ctx.rest = eps, slope, groups
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        (x, weight, bias, mean, var), (eps, slope, groups) = ctx.saved_tensors, ctx.rest
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_x, of_weight, of_bias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
        numba_kernels.normalise_back(
            _bits(x, groups), weight.numpy(), bias.numpy(), eps, slope, mean.numpy(), var.numpy(),
            _bits(gradient, groups), _bits(of_x, groups), of_weight.numpy(), of_bias.numpy(),
        )  # fmt: skip
        _, for_weight, for_bias, *_ = ctx.needs_input_grad
        return of_x, of_weight if for_weight else None, of_bias if for_bias else None, None, None, None


def _bits(x: Tensor, groups: int) -> npt.NDArray[np.unsignedinteger]:
    bits = torch.uint16 if x.dtype == torch.bfloat16 else torch.uint32
    return x.permute(0, 2, 3, 1).view(bits).numpy().reshape(groups, -1)
