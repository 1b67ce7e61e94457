"""The training task of the sign U-Net: public images under every key at once, through what no key changes.

`unveil.models.attacks.simulated_pairs` trains on the attacker's images; `unveil.models.tools.train_sign_unet` trained
the bundled weights.
"""

from __future__ import annotations

import copy
import zlib
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.models.core import serialization
from unveil.models.core.images import Images, pad
from unveil.models.core.run_context import RunContext
from unveil.models.metrics.ssim_loss import ssim_rgb7
from unveil.models.networks.sign_unet import (
    SIZE_MULTIPLE,
    SignUNet,
    candidate_values,
    posterior_mean_image,
    sorted_magnitudes,
)
from unveil.models.training.loop import TrainingConfig, TrainingTask, cosine, train

LAPLACE_SCALE = 8.0  # grey levels: the scale at which a candidate near the true value counts nearly as much as it
SSIM_WEIGHT = 2.0
WEIGHT_DECAY = 0.05
EMA_DECAY = 0.998


class SignUNetTask(TrainingTask):
    """Predict signs and channel order from sorted magnitudes; `average` holds a running mean of the weights."""

    def __init__(self, rate: float, initial_network: SignUNet | None = None) -> None:
        self.network = SignUNet() if initial_network is None else copy.deepcopy(initial_network)
        self.average = copy.deepcopy(self.network)
        self.networks = nn.ModuleDict({"network": self.network, "average": self.average})
        parameters = list(self.network.parameters())
        self.optimizers = [
            torch.optim.AdamW(
                [
                    {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
                    {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
                ],
                lr=rate,
                betas=(0.9, 0.99),
                fused=True,
            )
        ]
        self.steps = 0

    def step(self, images: list[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        with torch.autocast(images[0].device.type, enabled=False):
            plain = augment(images[0].permute(0, 3, 1, 2), generator)
            magnitudes = sorted_magnitudes(plain)
        logits = self.network(magnitudes)
        with torch.autocast(plain.device.type, enabled=False):  # SSIM needs float32
            nll, dissimilarity = losses(logits, magnitudes, plain)
        self.optimizers[0].zero_grad(set_to_none=True)
        (nll + SSIM_WEIGHT * dissimilarity).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizers[0].step()
        self.steps += 1
        self._update_average()
        return {"nll": nll.detach(), "ssim": 1 - dissimilarity.detach()}

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(EMA_DECAY, self.steps / (self.steps + 10))  # short at first: the first weights are random
        for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.steps = state_dict["steps"]


def train_sign_unet(
    public: Images,
    epochs: int,
    batch_size: int,
    rate: float,
    context: RunContext,
    initial_network: SignUNet | None = None,
) -> SignUNet:
    """Train on public images uint8 [N, H, W, 3] of any size -> the averaged network, in eval mode.

    rate: the highest learning rate of one cosine cycle (AdamW). Raises AttackFailed and what `context.report` raises.
    """
    start = "random" if initial_network is None else f"{zlib.crc32(serialization.dump(initial_network)):08x}"
    config = TrainingConfig(
        "sign_unet", epochs, batch_size, partial(cosine, warmup=0.06), f"{rate} {start}",
        min_batch_size=batch_size,  # a note would not reach the cells that share the network
    )  # fmt: skip
    task, _ = train(lambda: SignUNetTask(rate, initial_network), [[pad(public, SIZE_MULTIPLE)]], config, context)
    return task.average


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip, zoom and change contrast, gamma and tint: uint8 [N, 3, H, W] -> the same. Randomness: `generator`, on CPU.

    Contrast and brightness matter most because they move values across mid-grey, where all signs change. Images are
    never inverted: an inverted image has the same magnitudes, so the network would learn to predict nothing.
    """
    n, device = len(images), images.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    def bernoulli(probability: float) -> Tensor:
        return (torch.rand(n, generator=generator) < probability).float()

    zoomed = bernoulli(0.5)
    scale = 1 - zoomed * uniform(0, 0.42)
    stretch = torch.exp(zoomed * uniform(-0.12, 0.12))
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = (scale * stretch).clamp(max=1) * (1 - 2 * bernoulli(0.5))
    theta[:, 1, 1] = (scale / stretch).clamp(max=1)
    theta[:, 0, 2] = uniform(-1, 1) * (1 - theta[:, 0, 0].abs())
    theta[:, 1, 2] = uniform(-1, 1) * (1 - theta[:, 1, 1])
    changed = bernoulli(0.4).view(n, 1, 1, 1)
    gamma = torch.exp(
        changed
        * (torch.randn(n, 1, 1, 1, generator=generator) * 0.22 + torch.randn(n, 3, 1, 1, generator=generator) * 0.05)
    ).to(device)
    gain = (1 + changed * uniform(-0.2, 0.15, 1, 1, 1)).to(device)
    shift = (changed * uniform(-0.08, 0.08, 1, 1, 1)).to(device)
    saturation = (1 + changed * uniform(-0.5, 0.3, 1, 1, 1)).to(device)

    grid = F.affine_grid(theta, list(images.shape), align_corners=False).to(device)
    x = F.grid_sample(images.float() / 255, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    x = x.clamp(min=1e-4) ** gamma
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * saturation
    x = ((x - 0.5) * gain + 0.5 + shift).clamp(0, 1)
    return (x * 255).round().to(torch.uint8)


def losses(logits: Tensor, magnitudes: Tensor, plain: Tensor) -> tuple[Tensor, Tensor]:
    """The negative log-likelihood and 1 - SSIM of the posterior mean image, two scalars.

    logits: [N, 3, 6, H, W]; magnitudes: [N, 3, H, W]; plain: uint8 [N, 3, H, W]. The likelihood is a mixture of six
    Laplace densities of scale LAPLACE_SCALE at the candidates. A wrong sign costs more the more confident it is, and
    nothing near mid-grey or between equal magnitudes, where it makes no visible difference.
    """
    logits = logits.float()
    distance = (candidate_values(magnitudes).unsqueeze(1) - (plain.float() - 127.5).unsqueeze(2)).abs()
    nll = -(logits.log_softmax(2) - distance / LAPLACE_SCALE).logsumexp(2).mean()
    return nll, 1 - ssim_rgb7(posterior_mean_image(logits, magnitudes), plain.float()).mean()
