"""What CycleGAN learns (Zhu et al. 2017): two ways between two kinds of images, of which no two belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.models.networks.resnet_generator import parameters
from unveil.models.training.augmentation import square
from unveil.models.training.loop import Lesson, as_floats

HISTORY = 50  # generated images that a discriminator keeps seeing

Optimiser = Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]


class Cycle(Lesson):
    """Two decks, plain and protected: least squares against two discriminators, and back again to where it began."""

    def __init__(
        self,
        generator: Callable[[], nn.Module],
        discriminator: Callable[[], nn.Module],
        optimiser: Optimiser,
        *,
        weight: float,
        side: int | None,
        multiple: int,
    ) -> None:
        """weight: of the way there and back; side: of the squares that are learned from, at multiples of `multiple`."""
        self.protect, self.reveal = generator(), generator()
        self.judge_protected, self.judge_plain = discriminator(), discriminator()
        self.networks = nn.ModuleDict(
            {
                "protect": self.protect, "reveal": self.reveal,
                "judge_protected": self.judge_protected, "judge_plain": self.judge_plain,
            }
        )  # fmt: skip
        self.judges = parameters(self.judge_protected, self.judge_plain)
        self.optimisers = [optimiser(parameters(self.protect, self.reveal)), optimiser(self.judges)]
        self.histories = [History(), History()]
        self.weight, self.side, self.multiple = weight, side, multiple

    def step(self, images: list[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        squares = (as_floats(square(batch, self.side, self.multiple, generator)) for batch in images)
        plain, protected = (grained(each, generator) for each in squares)
        for_generators, for_judges = self.optimisers

        for p in self.judges:
            p.requires_grad_(False)
        # Each image is normalised alone, so what goes through the same network may go together.
        as_protected = self.protect(plain)
        as_plain, plain_again = self.reveal(torch.cat([protected, as_protected])).chunk(2)
        deceived = _says(self.judge_protected(as_protected), 1.0) + _says(self.judge_plain(as_plain), 1.0)
        cycle = F.l1_loss(plain_again, plain) + F.l1_loss(self.protect(as_plain), protected)
        for_generators.zero_grad(set_to_none=True)
        (deceived + self.weight * cycle).backward()  # type: ignore[no-untyped-call]
        for_generators.step()
        for p in self.judges:
            p.requires_grad_(True)

        old_protected = self.histories[0].exchange(as_protected.detach(), generator)
        old_plain = self.histories[1].exchange(as_plain.detach(), generator)
        told_apart = (
            _tells_apart(self.judge_protected, protected, old_protected)
            + _tells_apart(self.judge_plain, plain, old_plain)
        ) / 2
        for_judges.zero_grad(set_to_none=True)
        told_apart.backward()  # type: ignore[no-untyped-call]
        for_judges.step()
        return {"loss": deceived.detach(), "cycle_loss": cycle.detach(), "discriminator_loss": told_apart.detach()}

    def state(self) -> dict[str, Any]:
        return {**super().state(), "histories": [history.images for history in self.histories]}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        device = next(self.protect.parameters()).device
        for history, images in zip(self.histories, state["histories"], strict=True):
            history.images = None if images is None else images.to(device)


class History:
    """The last HISTORY generated images; every second one shown is an old one, whose place the new one takes."""

    def __init__(self) -> None:
        self.images: Tensor | None = None

    def exchange(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """[N, ...] -> [N, ...] to show to the discriminator."""
        held = images[:0] if self.images is None else self.images
        count = min(len(images), len(held))
        if len(held) < HISTORY:
            self.images = torch.cat([held, images[: HISTORY - len(held)]])
            return images
        places = torch.randperm(len(held), generator=generator)[:count].to(images.device)
        old = torch.rand(count, generator=generator).to(images.device) < 0.5
        new, kept = images[:count], held[places]
        mask = old.view(-1, 1, 1, 1)
        held[places] = torch.where(mask, new, kept)
        return torch.cat([torch.where(mask, kept, new), images[count:]])


def grained(images: Tensor, generator: torch.Generator) -> Tensor:
    """float [N, 3, H, W] in -1..1 -> the same, with noise of half a level either way, which no 8-bit image would show.

    A flat image stays flat through all of a generator, and every instance normalisation in it then multiplies the
    gradient by 300: a white square of 32x32 made it infinite.
    """
    noise = torch.rand(images.shape, generator=generator) - 0.5
    return images + noise.to(images.device) / 127.5


def _tells_apart(judge: nn.Module, real: Tensor, made: Tensor) -> Tensor:
    of_real, of_made = judge(torch.cat([real, made])).chunk(2)
    return _says(of_real, 1.0) + _says(of_made, 0.0)


def _says(scores: Tensor, label: float) -> Tensor:
    """Least squares of a map of scores with one label everywhere."""
    return F.mse_loss(scores.float(), torch.full_like(scores, label, dtype=torch.float32))
