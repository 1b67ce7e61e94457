"""CycleGAN training task for unpaired plain and protected images (Zhu et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.models.networks.resnet_generator import collect_parameters
from unveil.models.training.augmentation import random_square_crop
from unveil.models.training.loop import TrainingTask, to_model_input

POOL_SIZE = 50  # generated images kept for the discriminator [R]

OptimizerFactory = Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]


class CycleGanTask(TrainingTask):
    """Two tensor groups, plain and protected: least-squares adversarial losses plus a cycle-consistency loss."""

    def __init__(
        self,
        generator: Callable[[], nn.Module],
        discriminator: Callable[[], nn.Module],
        optimizer: OptimizerFactory,
        *,
        cycle_weight: float,
        side: int | None,
        multiple: int,
    ) -> None:
        """cycle_weight: of the cycle-consistency loss; side: of the random square crops, at multiples of `multiple`."""
        self.encrypt_net, self.decrypt_net = generator(), generator()
        self.protected_discriminator, self.plain_discriminator = discriminator(), discriminator()
        self.networks = nn.ModuleDict(
            {
                "protect": self.encrypt_net, "reveal": self.decrypt_net,
                "judge_protected": self.protected_discriminator, "judge_plain": self.plain_discriminator,
            }
        )  # fmt: skip
        self.discriminator_parameters = collect_parameters(self.protected_discriminator, self.plain_discriminator)
        self.optimizers = [
            optimizer(collect_parameters(self.encrypt_net, self.decrypt_net)),
            optimizer(self.discriminator_parameters),
        ]
        self.image_pools = [ImagePool(), ImagePool()]
        self.cycle_weight, self.side, self.multiple = cycle_weight, side, multiple

    def step(self, images: list[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        crops = (to_model_input(random_square_crop(batch, self.side, self.multiple, generator)) for batch in images)
        plain, protected = (dither(crop, generator) for crop in crops)
        generator_optimizer, discriminator_optimizer = self.optimizers

        for p in self.discriminator_parameters:
            p.requires_grad_(False)
        # Instance normalisation treats each image alone, so one pass may hold both batches.
        fake_protected = self.encrypt_net(plain)
        fake_plain, cycled_plain = self.decrypt_net(torch.cat([protected, fake_protected])).chunk(2)
        generator_loss = _lsgan_to_label(self.protected_discriminator(fake_protected), 1.0) + _lsgan_to_label(
            self.plain_discriminator(fake_plain), 1.0
        )
        cycle_loss = F.l1_loss(cycled_plain, plain) + F.l1_loss(self.encrypt_net(fake_plain), protected)
        generator_optimizer.zero_grad(set_to_none=True)
        (generator_loss + self.cycle_weight * cycle_loss).backward()  # type: ignore[no-untyped-call]
        generator_optimizer.step()
        for p in self.discriminator_parameters:
            p.requires_grad_(True)

        pooled_protected = self.image_pools[0].query(fake_protected.detach(), generator)
        pooled_plain = self.image_pools[1].query(fake_plain.detach(), generator)
        discriminator_loss = (
            _discriminator_loss(self.protected_discriminator, protected, pooled_protected)
            + _discriminator_loss(self.plain_discriminator, plain, pooled_plain)
        ) / 2
        discriminator_optimizer.zero_grad(set_to_none=True)
        discriminator_loss.backward()  # type: ignore[no-untyped-call]
        discriminator_optimizer.step()
        return {
            "loss": generator_loss.detach(),
            "cycle_loss": cycle_loss.detach(),
            "discriminator_loss": discriminator_loss.detach(),
        }

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "histories": [pool.images for pool in self.image_pools]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        device = next(self.encrypt_net.parameters()).device
        for pool, images in zip(self.image_pools, state_dict["histories"], strict=True):
            pool.images = None if images is None else images.to(device)


class ImagePool:
    """The image pool: a generated image is swapped for an older one of the pool with probability 1/2."""

    def __init__(self) -> None:
        self.images: Tensor | None = None

    def query(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """New generated images [N, ...] -> the images [N, ...] for the discriminator."""
        pool = images[:0] if self.images is None else self.images
        count = min(len(images), len(pool))
        if len(pool) < POOL_SIZE:
            self.images = torch.cat([pool, images[: POOL_SIZE - len(pool)]])
            return images
        positions = torch.randperm(len(pool), generator=generator)[:count].to(images.device)
        use_pooled = torch.rand(count, generator=generator).to(images.device) < 0.5
        new, pooled = images[:count], pool[positions]
        mask = use_pooled.view(-1, 1, 1, 1)
        pool[positions] = torch.where(mask, new, pooled)
        return torch.cat([torch.where(mask, pooled, new), images[count:]])


def dither(images: Tensor, generator: torch.Generator) -> Tensor:
    """Add uniform noise of half a grey level, which 8 bits cannot represent: float [N, 3, H, W] in -1..1 -> the same.

    A flat image stays flat through the whole generator, and every instance normalisation then multiplies the gradient
    by 300: without noise, a white 32x32 square gave infinite gradients [M].
    """
    noise = torch.rand(images.shape, generator=generator) - 0.5
    return images + noise.to(images.device) / 127.5


def _discriminator_loss(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    real_scores, fake_scores = discriminator(torch.cat([real, fake])).chunk(2)
    return _lsgan_to_label(real_scores, 1.0) + _lsgan_to_label(fake_scores, 0.0)


def _lsgan_to_label(scores: Tensor, label: float) -> Tensor:
    """The least-squares loss of a map of scores against one label."""
    return F.mse_loss(scores.float(), torch.full_like(scores, label, dtype=torch.float32))
