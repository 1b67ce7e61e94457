"""Training tasks: an inverse from pairs, a GAN without pairs, and TN-model's transformation."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection
from itertools import pairwise
from typing import Any, TypeVar

import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval

from unveil.models.networks.block_network import BLOCK
from unveil.models.training.augmentation import flip_and_crop, random_square_crop
from unveil.models.training.loop import TrainingTask, to_model_input

_VALIDATION_BATCH_SIZE = 32

N = TypeVar("N", bound=nn.Module)
Loss = Callable[[Tensor, Tensor], Tensor]  # network output, plain images, both float [N, 3, H, W] in -1..1


class RegressionTask(TrainingTask):
    """Training task: map protected images to plain images, from pairs."""

    def __init__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, side: int | None = None
    ) -> None:
        """side: of the random square crops, the same for both images of a pair; None: whole images."""
        self.networks = nn.ModuleDict({"network": network})
        self.optimizers = [optimizer]
        self.network, self.loss, self.side = network, loss, side

    def step(self, images: list[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        if self.side is not None:
            images = list(random_square_crop(torch.cat(images), self.side, 1, generator).tensor_split(2))
        protected, plain = map(to_model_input, images)
        loss = self.loss(self.network(protected).float(), plain)
        self.optimizers[0].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[0].step()
        return {"loss": loss.detach()}


class GanTask(TrainingTask):
    """Training task: a generator from protected to plain images against a discriminator, without pairs [P].

    A GAN trained without pairs can converge to the inverted image and rarely leaves it again. After the epochs in
    `sign_check_epochs`, `polarity_score` returns the log-odds that the outputs are not inverted; if they are below 0,
    the sign of the last layer is flipped [M].
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        side: int | None = None,
        sign_check_epochs: Collection[int] = (),
        polarity_score: Callable[[nn.Module], float] | None = None,
    ) -> None:
        """side: of the random square crops; None: whole images."""
        self.generator, self.discriminator, self.side = generator, discriminator, side
        self.sign_check_epochs, self.polarity_score = sign_check_epochs, polarity_score
        self.networks = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
        self.optimizers = [optimizer(generator), optimizer(discriminator)]
        self.epochs_done = 0
        self.log_odds: dict[int, float] = {}  # by epoch

    def step(self, images: list[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        protected, plain = (to_model_input(random_square_crop(batch, self.side, BLOCK, generator)) for batch in images)
        generator_optimizer, discriminator_optimizer = self.optimizers
        fake = self.generator(protected)
        discriminator_loss = _bce_to_label(self.discriminator(plain), 1.0) + _bce_to_label(
            self.discriminator(fake.detach()), 0.0
        )
        discriminator_optimizer.zero_grad(set_to_none=True)
        discriminator_loss.backward()  # type: ignore[no-untyped-call]
        discriminator_optimizer.step()

        self.discriminator.requires_grad_(False)  # saves an unused gradient
        generator_loss = _bce_to_label(self.discriminator(fake), 1.0)
        self.discriminator.requires_grad_(True)
        generator_optimizer.zero_grad(set_to_none=True)
        generator_loss.backward()  # type: ignore[no-untyped-call]
        generator_optimizer.step()
        return {"loss": generator_loss.detach(), "discriminator_loss": discriminator_loss.detach() / 2}

    def after_epoch(self) -> dict[str, float]:
        self.epochs_done += 1
        if self.polarity_score is None or self.epochs_done not in self.sign_check_epochs:
            return {}
        self.generator.eval()
        self.log_odds[self.epochs_done] = self.polarity_score(self.generator)
        self.generator.train()
        if self.log_odds[self.epochs_done] < 0:
            self.flip_output_sign()
        return {"log_odds": self.log_odds[self.epochs_done]}

    @torch.no_grad()
    def flip_output_sign(self) -> None:
        """Invert all outputs by flipping the sign of the last layer; the tanh after it is odd."""
        last_layer = [module for module in self.generator.modules() if isinstance(module, nn.Conv2d | nn.Linear)][-1]
        for parameter in last_layer.parameters():
            parameter.neg_()
            momentum = self.optimizers[0].state.get(parameter, {}).get("exp_avg")
            if momentum is not None:
                momentum.neg_()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "looks": {"epochs": self.epochs_done, "log_odds": self.log_odds}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.epochs_done, self.log_odds = state_dict["looks"]["epochs"], state_dict["looks"]["log_odds"]


class TransformationTask(TrainingTask):
    """Training task: keep the prediction of a classifier and move visual features away from the image (TN-model) [C].

    classifier: float [N, 3, H, W] in -1..1 -> logits; feature_extractor: the same -> features; both stay frozen. The
    task keeps the weights of the epoch with the lowest loss on `held_out`, images uint8 [N, H, W, 3] and labels [N].
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        classifier: nn.Module,
        feature_extractor: nn.Module,
        feature_weight: float,
        padding: int,
        held_out: tuple[npt.NDArray[Any], npt.NDArray[Any]],
        side: int | None = None,
    ) -> None:
        """side: of the square crops whose features are compared in training; None: whole images."""
        self.networks = nn.ModuleDict({"network": network})
        self.optimizers = [optimizer]
        # In one call, so that layers that both networks share stay shared.
        classifier, feature_extractor = fold_batch_norm(nn.ModuleList([classifier, feature_extractor]))
        self.frozen = [classifier, feature_extractor]
        self.network, self.classifier, self.feature_extractor, self.feature_weight = (
            network,
            classifier,
            feature_extractor,
            feature_weight,
        )
        self.padding, self.side = padding, side
        self.held_out = [torch.from_numpy(array) for array in held_out]
        self.epochs_done, self.best_epoch, self.best_loss = 0, 0, math.inf
        self.best_weights: dict[str, Tensor] = {}

    def step(self, images: list[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        plain = to_model_input(flip_and_crop(images[0], self.padding, generator))
        losses = self._losses(plain, images[1], lambda both: random_square_crop(both, self.side, 1, generator))
        self.optimizers[0].zero_grad(set_to_none=True)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        self.optimizers[0].step()
        return {name: loss.detach() for name, loss in losses.items()}

    def _losses(
        self, plain: Tensor, labels: Tensor, crop: Callable[[Tensor], Tensor] = lambda images: images
    ) -> dict[str, Tensor]:
        """crop: selects the part of images [N, H, W, 3] whose features are compared."""
        output = self.network(plain)
        cross_entropy = F.cross_entropy(self.classifier(output).float(), labels)
        pair = crop(torch.cat([plain, output]).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        plain_crop, output_crop = pair.tensor_split(2)
        with torch.no_grad():
            features = self.feature_extractor(plain_crop).float()
        distance = F.mse_loss(self.feature_extractor(output_crop).float(), features)
        return {
            "loss": cross_entropy - self.feature_weight * distance,
            "cross_entropy": cross_entropy,
            "distance": distance,
        }

    @torch.no_grad()
    def after_epoch(self) -> dict[str, float]:
        self.network.eval()
        device, total = next(self.network.parameters()).device, 0.0
        for images, labels in zip(
            *(torch.split(array, _VALIDATION_BATCH_SIZE) for array in self.held_out), strict=True
        ):
            losses = self._losses(to_model_input(images.to(device)), labels.to(device))
            total += float(losses["loss"]) * len(images)
        self.network.train()
        self.epochs_done += 1
        loss = total / len(self.held_out[0])
        if loss < self.best_loss:
            self.best_epoch, self.best_loss = self.epochs_done, loss
            self.best_weights = {name: value.clone() for name, value in self.network.state_dict().items()}
        return {"validation_loss": loss}

    def state_dict(self) -> dict[str, Any]:
        best = {
            "epochs": self.epochs_done,
            "epoch": self.best_epoch,
            "loss": self.best_loss,
            "weights": self.best_weights,
        }
        return {**super().state_dict(), "best": best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        best = state_dict["best"]
        self.epochs_done, self.best_epoch, self.best_loss = best["epochs"], best["epoch"], best["loss"]
        self.best_weights = best["weights"]

    def best_network(self) -> nn.Module:
        """The network with the weights of the best epoch."""
        self.network.load_state_dict(self.best_weights)
        return self.network


def fold_batch_norm(network: N) -> N:
    """A copy in eval mode with batch normalisations merged into the convolutions before them; equal up to rounding."""
    network = copy.deepcopy(network).eval()
    for chain in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for i, (layer, next_layer) in enumerate(pairwise(chain)):
            if isinstance(layer, nn.Conv2d) and isinstance(next_layer, nn.BatchNorm2d):
                chain[i], chain[i + 1] = fuse_conv_bn_eval(layer, next_layer), nn.Identity()
    return network


def _bce_to_label(scores: Tensor, label: float) -> Tensor:
    """The binary cross-entropy of a map of logits against one label."""
    return F.binary_cross_entropy_with_logits(scores.float(), torch.full_like(scores, label, dtype=torch.float32))
