"""What networks learn from images: an inverse from pairs, or a generator against a discriminator."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.augmentation import square
from models.networks.block import BLOCK
from models.training import Lesson, as_floats

Loss = Callable[[Tensor, Tensor], Tensor]  # network output, plain images, both float [N, 3, H, W] in -1..1


class Regression(Lesson):
    """From protected images to plain ones, given as pairs."""

    def __init__(self, network: nn.Module, optimiser: torch.optim.Optimizer, loss: Loss) -> None:
        self.networks = nn.ModuleDict({"network": network})
        self.optimisers = [optimiser]
        self.network, self.loss = network, loss

    def step(self, images: list[Tensor], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002
        protected, plain = map(as_floats, images)
        loss = self.loss(self.network(protected).float(), plain)
        self.optimisers[0].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimisers[0].step()
        return {"loss": loss.detach()}


class Adversarial(Lesson):
    """Make of protected images what a discriminator cannot tell from plain ones, without pairs (Goodfellow 2014)."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        optimiser: Callable[[nn.Module], torch.optim.Optimizer],
        side: int | None = None,
    ) -> None:
        """side: of the squares that are learned from; None: whole images."""
        self.side = side
        self.networks = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
        self.optimisers = [optimiser(generator), optimiser(discriminator)]
        self.generator, self.discriminator = generator, discriminator

    def step(self, images: list[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        protected, plain = (as_floats(square(batch, self.side, BLOCK, generator)) for batch in images)
        for_generator, for_discriminator = self.optimisers
        fake = self.generator(protected)

        real_scores, fake_scores = self.discriminator(plain), self.discriminator(fake.detach())
        told_apart = _says(real_scores, 1.0) + _says(fake_scores, 0.0)
        for_discriminator.zero_grad(set_to_none=True)
        told_apart.backward()  # type: ignore[no-untyped-call]
        for_discriminator.step()

        self.discriminator.requires_grad_(False)  # saves the gradient that nobody uses
        deceived = _says(self.discriminator(fake), 1.0)
        self.discriminator.requires_grad_(True)
        for_generator.zero_grad(set_to_none=True)
        deceived.backward()  # type: ignore[no-untyped-call]
        for_generator.step()
        return {"loss": deceived.detach(), "discriminator_loss": told_apart.detach() / 2}


def _says(scores: Tensor, label: float) -> Tensor:
    """Binary cross-entropy of a map of logits with one label everywhere."""
    return F.binary_cross_entropy_with_logits(scores.float(), torch.full_like(scores, label, dtype=torch.float32))
