"""Normalisations of a training on a CPU, there and back: our compiled loops beside PyTorch's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.results import Goal
from benchmarks.timing import Job
from models.networks.fused_norms import FusedNorms

_IMAGES, _SIDE = 32, 32


def norms() -> Iterator[Job]:
    """In bfloat16, channels last, as the `quick` profile's networks have them."""
    for what, norm, channels in (("batch", nn.BatchNorm2d, 8), ("instance", nn.InstanceNorm2d, 16)):
        network = nn.Sequential(norm(channels), nn.ReLU(inplace=True))
        x, gradient = (
            torch.randn(_IMAGES, channels, _SIDE, _SIDE).bfloat16().contiguous(memory_format=torch.channels_last)
            for _ in range(2)
        )
        step = _step(network, x.requires_grad_(), gradient)
        yield Job(
            f"{what} normalisation and ReLU, {channels} channels of {_SIDE}x{_SIDE}, there and back",
            "PyTorch's, one thread",
            (_fast(network, step), _IMAGES),
            (step, _IMAGES),
            limit=("two copies", (lambda x=x, gradient=gradient: (x.clone(), gradient.clone()), _IMAGES)),
            goal=Goal("at least", 1.5, of="ratio"),
        )


def _step(network: nn.Module, x: Tensor, gradient: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(network(x), [x, *network.parameters()], gradient)


def _fast(network: nn.Module, step: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        with FusedNorms(network):
            step()

    return run
