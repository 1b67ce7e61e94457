"""Normalisations of a training on a CPU, there and back: our compiled loops beside PyTorch's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor, nn

from benchmarks.results import Goal
from benchmarks.timing import Job
from unveil.models.networks.fused_norms import FusedNorms

_IMAGES, _SIDE = 32, 32


def norms() -> Iterator[Job]:
    """Channels last, as the `quick` profile's networks have them; float32 where a processor has no bfloat16."""
    kinds = ("batch", nn.BatchNorm2d, 8), ("instance", nn.InstanceNorm2d, 16)
    for (what, norm, channels), dtype in product(kinds, (torch.bfloat16, torch.float32)):
        network = nn.Sequential(norm(channels), nn.ReLU(inplace=True))
        x, gradient = (
            torch.randn(_IMAGES, channels, _SIDE, _SIDE).to(dtype).contiguous(memory_format=torch.channels_last)
            for _ in range(2)
        )
        step = _step(network, x.requires_grad_(), gradient)
        precision = str(dtype).removeprefix("torch.")
        yield Job(
            f"{what} normalisation and ReLU, {channels} channels of {_SIDE}x{_SIDE}, {precision}, there and back",
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
