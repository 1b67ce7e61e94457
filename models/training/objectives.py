"""What networks learn from images: an inverse from pairs, a generator against a discriminator, to conceal."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.models.networks.block_network import BLOCK
from unveil.models.networks.bn_folding import folded
from unveil.models.training.augmentation import flip_and_crop, square
from unveil.models.training.loop import Lesson, as_floats

_HELD_OUT_BATCH = 32

Loss = Callable[[Tensor, Tensor], Tensor]  # network output, plain images, both float [N, 3, H, W] in -1..1


class Regression(Lesson):
    """From protected images to plain ones, given as pairs."""

    def __init__(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, loss: Loss, side: int | None = None
    ) -> None:
        """side: of the squares that are learned from, the same of both; None: whole images."""
        self.networks = nn.ModuleDict({"network": network})
        self.optimisers = [optimiser]
        self.network, self.loss, self.side = network, loss, side

    def step(self, images: list[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        if self.side is not None:
            images = list(square(torch.cat(images), self.side, 1, generator).tensor_split(2))
        protected, plain = map(as_floats, images)
        loss = self.loss(self.network(protected).float(), plain)
        self.optimisers[0].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimisers[0].step()
        return {"loss": loss.detach()}


class Adversarial(Lesson):
    """Make of protected images what a discriminator cannot tell from plain ones, without pairs (Goodfellow 2014).

    A picture and its negative have nearly all in common, and a generator that has settled on either hardly turns round.
    So after each epoch in `looks` a judge is asked for the log-odds that pictures are made and not negatives; where it
    thinks not, the generator is turned.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        optimiser: Callable[[nn.Module], torch.optim.Optimizer],
        side: int | None = None,
        looks: Collection[int] = (),
        judge: Callable[[nn.Module], float] | None = None,
    ) -> None:
        """side: of the squares that are learned from; None: whole images."""
        self.generator, self.discriminator, self.side = generator, discriminator, side
        self.looks, self.judge = looks, judge
        self.networks = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
        self.optimisers = [optimiser(generator), optimiser(discriminator)]
        self.epochs = 0
        self.log_odds: dict[int, float] = {}  # at each look

    def step(self, images: list[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        protected, plain = (as_floats(square(batch, self.side, BLOCK, generator)) for batch in images)
        for_generator, for_discriminator = self.optimisers
        fake = self.generator(protected)
        told_apart = _says(self.discriminator(plain), 1.0) + _says(self.discriminator(fake.detach()), 0.0)
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

    def after_epoch(self) -> dict[str, float]:
        self.epochs += 1
        if self.judge is None or self.epochs not in self.looks:
            return {}
        self.generator.eval()
        self.log_odds[self.epochs] = self.judge(self.generator)
        self.generator.train()
        if self.log_odds[self.epochs] < 0:
            self.turn()
        return {"log_odds": self.log_odds[self.epochs]}

    @torch.no_grad()
    def turn(self) -> None:
        """From now on the negative is made of what was made: all that follows the last layer is odd (tanh)."""
        last = [module for module in self.generator.modules() if isinstance(module, nn.Conv2d | nn.Linear)][-1]
        for parameter in last.parameters():
            parameter.neg_()
            momentum = self.optimisers[0].state.get(parameter, {}).get("exp_avg")
            if momentum is not None:
                momentum.neg_()

    def state(self) -> dict[str, Any]:
        return {**super().state(), "looks": {"epochs": self.epochs, "log_odds": self.log_odds}}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.epochs, self.log_odds = state["looks"]["epochs"], state["looks"]["log_odds"]


class Concealment(Lesson):
    """Change images so that a judge still names their class and an eye sees something else (TN-model) [C].

    judge: float [N, 3, H, W] in -1..1 -> logits; eye: the same -> features. The weights of the epoch with the lowest
    loss on images held out, uint8 [N, H, W, 3] and labels [N], are kept.
    """

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        judge: nn.Module,
        eye: nn.Module,
        weight: float,
        padding: int,
        held_out: tuple[npt.NDArray[Any], npt.NDArray[Any]],
        side: int | None = None,
    ) -> None:
        """side: of the squares whose features are compared while it learns; None: whole images."""
        self.networks = nn.ModuleDict({"network": network})
        self.optimisers = [optimiser]
        judge, eye = folded(nn.ModuleList([judge, eye]))  # at once: what they share stays shared
        self.frozen = [judge, eye]
        self.network, self.judge, self.eye, self.weight = network, judge, eye, weight
        self.padding, self.side = padding, side
        self.held_out = [torch.from_numpy(array) for array in held_out]
        self.epochs, self.best_epoch, self.best_loss = 0, 0, math.inf
        self.best: dict[str, Tensor] = {}

    def step(self, images: list[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        plain = as_floats(flip_and_crop(images[0], self.padding, generator))
        losses = self._losses(plain, images[1], lambda both: square(both, self.side, 1, generator))
        self.optimisers[0].zero_grad(set_to_none=True)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        self.optimisers[0].step()
        return {name: loss.detach() for name, loss in losses.items()}

    def _losses(
        self, plain: Tensor, labels: Tensor, part: Callable[[Tensor], Tensor] = lambda images: images
    ) -> dict[str, Tensor]:
        """part: of images [N, H, W, 3], where the eye looks."""
        hidden = self.network(plain)
        named = F.cross_entropy(self.judge(hidden).float(), labels)
        both = part(torch.cat([plain, hidden]).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        before, after = both.tensor_split(2)
        with torch.no_grad():
            features = self.eye(before).float()
        distance = F.mse_loss(self.eye(after).float(), features)
        return {"loss": named - self.weight * distance, "cross_entropy": named, "distance": distance}

    @torch.no_grad()
    def after_epoch(self) -> dict[str, float]:
        self.network.eval()
        device, total = next(self.network.parameters()).device, 0.0
        for images, labels in zip(*(torch.split(array, _HELD_OUT_BATCH) for array in self.held_out), strict=True):
            losses = self._losses(as_floats(images.to(device)), labels.to(device))
            total += float(losses["loss"]) * len(images)
        self.network.train()
        self.epochs += 1
        loss = total / len(self.held_out[0])
        if loss < self.best_loss:
            self.best_epoch, self.best_loss = self.epochs, loss
            self.best = {name: value.clone() for name, value in self.network.state_dict().items()}
        return {"validation_loss": loss}

    def state(self) -> dict[str, Any]:
        best = {"epochs": self.epochs, "epoch": self.best_epoch, "loss": self.best_loss, "weights": self.best}
        return {**super().state(), "best": best}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        best = state["best"]
        self.epochs, self.best_epoch, self.best_loss = best["epochs"], best["epoch"], best["loss"]
        self.best = best["weights"]

    def best_network(self) -> nn.Module:
        """The network with the weights that were kept."""
        self.network.load_state_dict(self.best)
        return self.network


def _says(scores: Tensor, label: float) -> Tensor:
    """Binary cross-entropy of a map of logits with one label everywhere."""
    return F.binary_cross_entropy_with_logits(scores.float(), torch.full_like(scores, label, dtype=torch.float32))
