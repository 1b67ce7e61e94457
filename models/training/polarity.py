"""The polarity classifier: a small network, trained on public images, that tells images from their inversions.

A GAN trained without pairs can converge to the inverted image. In most images the sky is bright and above, the ground
dark and below. The network reads 24x24 ranks of grey values, which do not depend on the tone curve, and learns to
prefer each image to its inversion. On one image it is barely better than chance; the log-odds of many outputs of one
generator add up.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.training.loop import TrainingConfig, TrainingTask, cosine, train

SIDE = 24
_CONFIG = TrainingConfig("negatives", epochs=6, batch_size=32, lr_schedule=cosine, precision="fp32")


class PolarityNetwork(nn.Module):
    """Three 3x3 convolutions, each followed by a halving, with height as a second channel: [N, 1, 24, 24] -> [N]."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((2, width), (width, 2 * width), (2 * width, 2 * width)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True), nn.AvgPool2d(2)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * width * (SIDE // 8) ** 2, 1))

    def forward(self, grey_ranks: Tensor) -> Tensor:
        height = torch.linspace(-1, 1, SIDE, device=grey_ranks.device)[:, None].expand_as(grey_ranks)
        return self.layers(torch.cat([grey_ranks, height], 1))[:, 0]


class PolarityTask(TrainingTask):
    """Training task: prefer every image, mirrored or not, to its inversion."""

    def __init__(self) -> None:
        self.network = PolarityNetwork()
        self.networks = nn.ModuleDict({"network": self.network})
        self.optimizers = [torch.optim.AdamW(self.network.parameters(), 2e-3, weight_decay=0.05)]

    def step(self, images: list[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        mirror = torch.rand(len(images[0]), 1, 1, 1, generator=generator) < 0.5
        grey_ranks = torch.where(mirror.to(images[0].device), images[0].flip(3), images[0])
        loss = F.softplus(-polarity_log_odds(self.network, grey_ranks)).mean()
        self.optimizers[0].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[0].step()
        return {"loss": loss.detach()}


def fit_polarity_network(public: Images, context: RunContext) -> nn.Module:
    """Train on public images uint8 [N, H, W, 3]; takes seconds."""
    task, _ = train(PolarityTask, [[rank_greys(public).numpy()]], _CONFIG, context)
    return task.network


@torch.inference_mode()
def sum_log_odds(network: nn.Module, images: Images) -> float:
    """The summed log-odds that images uint8 [N, H, W, 3] of one generator are not inverted; below 0 if they are."""
    device = next(network.parameters()).device
    return math.fsum(
        float(polarity_log_odds(network, batch.to(device)).sum()) for batch in torch.split(rank_greys(images), 256)
    )


def polarity_log_odds(network: nn.Module, grey_ranks: Tensor) -> Tensor:
    """Ranks [N, 1, 24, 24] -> log-odds [N], antisymmetric under inversion."""
    positive, negative = network(torch.cat([grey_ranks, -grey_ranks])).chunk(2)
    return positive - negative


def rank_greys(images: Images) -> Tensor:
    """uint8 [N, H, W, 3] -> float [N, 1, 24, 24] in -1..1: the share of lower greys minus that of higher greys.

    The ranks of an inverted image are exactly the negated ranks.
    """
    small = F.adaptive_avg_pool2d(torch.from_numpy(images.sum(-1, dtype=np.float32))[:, None], SIDE)
    values = small.flatten(1)
    ordered = values.sort(1).values
    below, not_above = torch.searchsorted(ordered, values), torch.searchsorted(ordered, values, right=True)
    return ((below + not_above - SIDE**2) / SIDE**2).view_as(small)
