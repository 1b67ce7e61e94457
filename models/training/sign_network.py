"""Training of the sign network on public photographs; `unveil.models.tools.train_sign_unet` is its command."""

from __future__ import annotations

import copy
import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.models.core import checkpoints
from unveil.models.metrics.ssim_loss import ssim_rgb7
from unveil.models.networks.sign_unet import SignUNet, candidate_values, posterior_mean_image, sorted_magnitudes

LAPLACE_SCALE = 8.0  # grey levels: a candidate this near to the truth is nearly as good as the truth

CHECKPOINT_INTERVAL_SECONDS = 60.0


def augment(photographs: Tensor, generator: torch.Generator) -> Tensor:
    """New photographs from old: flip, zoom, contrast, gamma, tint. uint8 [N, 3, H, W] -> the same.

    Contrast and brightness matter most: they move mid-grey, where all signs turn. Never the negative: it has the same
    magnitudes, so it would teach that nothing can be known.
    """
    n = len(photographs)

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
    grid = F.affine_grid(theta, list(photographs.shape), align_corners=False)
    x = F.grid_sample(photographs.float() / 255, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    mask = bernoulli(0.4).view(n, 1, 1, 1)
    gamma = torch.exp(
        mask
        * (torch.randn(n, 1, 1, 1, generator=generator) * 0.22 + torch.randn(n, 3, 1, 1, generator=generator) * 0.05)
    )
    gain = 1 + mask * uniform(-0.2, 0.15, 1, 1, 1)
    shift = mask * uniform(-0.08, 0.08, 1, 1, 1)
    x = x.clamp(min=1e-4) ** gamma
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + mask * uniform(-0.5, 0.3, 1, 1, 1))
    x = ((x - 0.5) * gain + 0.5 + shift).clamp(0, 1)
    return (x * 255).round().to(torch.uint8)


def losses(logits: Tensor, magnitudes: Tensor, plain: Tensor) -> tuple[Tensor, Tensor]:
    """(-log likelihood, 1 - SSIM of the expected image).

    The likelihood is a mixture of six Laplace densities of scale TAU at the candidates: a wrong sign costs the more the
    surer it was, and nothing near mid-grey or between equal magnitudes, where it cannot be seen.
    """
    logits = logits.float()
    distance = (candidate_values(magnitudes).unsqueeze(1) - (plain.float() - 127.5).unsqueeze(2)).abs()
    nll = -(logits.log_softmax(2) - distance / LAPLACE_SCALE).logsumexp(2).mean()
    return nll, 1 - ssim_rgb7(posterior_mean_image(logits, magnitudes), plain.float()).mean()


@dataclass(frozen=True)
class TrainSettings:
    steps: int
    batch: int = 16
    rate: float = 1.2e-3  # AdamW's, at the top of one cosine cycle
    ssim_weight: float = 2.0
    weight_decay: float = 0.05
    averaging: float = 0.998  # the returned weights are a running mean
    seed: int = 0
    limit_seconds: float = math.inf


def train(
    photographs: Tensor,
    settings: TrainSettings,
    *,
    initial_network: SignUNet | None = None,
    store: checkpoints.CheckpointStore | None = None,
    name: str = "sign_unet.ckpt",
    device: str = "cpu",
    compiled: bool = False,
    tell: Callable[[int, float, float], None] | None = None,
    on_step: Callable[[int, SignUNet], None] | None = None,
) -> SignUNet:
    """Train on uint8 [N, 3, H, W], sides multiples of 8 -> the averaged network, in eval mode.

    tell(step, loss, SSIM of the training batch) comes every 20 steps, each_step(step, averaged network) always; both
    may raise to stop. Continues from the checkpoint `name` in `store`, if it is of the same photographs, settings
    (but for the limit) and start.
    """
    version = _run_version(photographs, settings, initial_network)
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    network = (SignUNet() if initial_network is None else copy.deepcopy(initial_network)).to(device).train()
    average = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=settings.rate,
        betas=(0.9, 0.99),
        fused=True,
    )
    step, seconds_before = 0, 0.0
    state = None if store is None else checkpoints.load(store, name)
    if state is not None and state.get("version") == version:
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
        step, seconds_before = state["step"], state["spent"]
    loss_of: Any = losses
    if compiled:
        from torch._inductor import config as inductor

        inductor.cpp.dynamic_threads = True  # PoliteThreads changes their number
        loss_of = torch.compile(losses)

    started_at = time.monotonic() - seconds_before
    saved_at = time.monotonic()
    while (progress := max(step / settings.steps, (time.monotonic() - started_at) / settings.limit_seconds)) < 1:
        warmup = min(1.0, (progress + 1 / settings.steps) / 0.06)
        rate = settings.rate * warmup * (0.5 + 0.5 * math.cos(math.pi * max(0.0, progress - 0.06) / 0.94)) + 1e-6
        for group in optimizer.param_groups:
            group["lr"] = rate

        chosen = torch.randint(len(photographs), (settings.batch,), generator=generator)
        plain = augment(photographs[chosen], generator).to(device)
        magnitudes = sorted_magnitudes(plain)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            logits = network(magnitudes)
        nll, dissimilarity = loss_of(logits, magnitudes, plain)
        optimizer.zero_grad(set_to_none=True)
        (nll + settings.ssim_weight * dissimilarity).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        decay = min(settings.averaging, step / (step + 10))
        with torch.no_grad():
            for mean, current in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(current, 1 - decay)

        if tell is not None and (step % 20 == 0 or step == settings.steps):
            tell(step, nll.item(), 1 - dissimilarity.item())
        if on_step is not None:
            on_step(step, average)
        if store is not None and time.monotonic() - saved_at > CHECKPOINT_INTERVAL_SECONDS:
            state = {
                "version": version,
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimizer.state_dict(),
                "generator": generator.get_state(),
                "step": step,
                "spent": time.monotonic() - started_at,
            }
            checkpoints.save(store, name, state)
            saved_at = time.monotonic()
    return average.eval()


def _run_version(photographs: Tensor, settings: TrainSettings, initial_network: SignUNet | None) -> str:
    """Two runs with the same version are the same run."""
    initial_arrays = (
        [] if initial_network is None else [value.cpu().numpy() for value in initial_network.state_dict().values()]
    )
    sums = [
        f"{zlib.crc32(np.ascontiguousarray(array).data):08x}" for array in (photographs.cpu().numpy(), *initial_arrays)
    ]
    return f"{replace(settings, limit_seconds=math.inf)} {list(photographs.shape)} {''.join(sums)}"
