"""The one training loop: every network of the product is trained by `train`.

A `Lesson` says what is learned (networks, optimisers, one step); the loop does the rest: order of the images, learning
rates, precision, progress, cancelling, checkpoints. A run is a function of its lesson, its images and its plan: stopped
anywhere and started again, it ends at the same weights, on a CPU to the bit.
"""

from __future__ import annotations

import ctypes
import math
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from unveil.models.core import checkpoints
from unveil.models.core.errors import AttackFailed, Cancelled, TrainingFailed
from unveil.models.core.images import Images, quantise
from unveil.models.core.run_context import Context
from unveil.models.networks.fused_norms import FusedNorms

Deck = Sequence[npt.NDArray[Any]]  # images and labels [N, ...] that belong together; decks are shuffled independently
Schedule = Callable[[float], float]  # fraction of the training done -> factor on every learning rate

Precision = Literal["auto", "fp32", "bf16"]  # auto: bfloat16 where the device computes in it

SAVE_SECONDS = 60.0
_END_SECONDS = 2.0  # what the last checkpoint may take
_FORMAT = 4  # of checkpoints: those of another one are not taken up
PULSE_SECONDS = 0.5  # between two looks at whether somebody cancelled
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


class Lesson(ABC):
    """What is learned. Its weights must not exist before __init__: the loop seeds them.

    frozen: networks that are asked and do not learn; they stay as they come, in eval mode.
    """

    networks: nn.ModuleDict
    optimisers: Sequence[torch.optim.Optimizer]
    frozen: Sequence[nn.Module] = ()

    @abstractmethod
    def step(self, images: list[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Learn from one batch, uint8 [N, H, W, 3] or labels [N] for each array of each deck -> losses, no gradients.

        Every random number comes from `generator` (on the CPU), or a resumed run would go astray.
        """

    def after_epoch(self) -> dict[str, float]:
        """Figures at the end of an epoch, such as a loss on images held out. What it keeps belongs into `state`."""
        return {}

    def state(self) -> dict[str, Any]:
        return {"networks": self.networks.state_dict(), "optimisers": [o.state_dict() for o in self.optimisers]}

    def load(self, state: dict[str, Any]) -> None:
        self.networks.load_state_dict(state["networks"])
        for optimiser, values in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(values)


L = TypeVar("L", bound=Lesson)


@dataclass(frozen=True)
class Plan:
    """How long and how fast. name: of the checkpoint; version: whatever else makes two runs different."""

    name: str
    epochs: int
    batch: int
    schedule: Schedule
    version: str = ""
    precision: Precision = "auto"


def constant(fraction: float) -> float:  # noqa: ARG001
    return 1.0


def drops(*at: float, factor: float = 0.1) -> Schedule:
    """Multiplied by `factor` at each of these fractions of the training."""
    return lambda fraction: float(factor ** sum(fraction >= a for a in at))


def falling(fraction: float) -> float:
    """Constant for half of the training, then down to 0 in a line."""
    return min(1.0, 2 * (1 - fraction))


def cosine(fraction: float, warm: float = 0.05) -> float:
    """Up in a line, down in half a cosine."""
    return min(1.0, (fraction + 1e-3) / warm) * (0.5 + 0.5 * math.cos(math.pi * max(0.0, fraction - warm) / (1 - warm)))


def train(make: Callable[[], L], decks: Sequence[Deck], plan: Plan, context: Context) -> tuple[L, tuple[str, ...]]:
    """Make a lesson and go through it -> the lesson, learned, and notes on what was done otherwise than planned.

    An epoch is one pass over the first deck. Raises AttackFailed (a loss that is no number; too little memory even for
    two images a step) and whatever context.report and context.metric raise, the last checkpoint being kept.
    """
    batch = plan.batch
    while True:
        try:
            return _train(make, decks, plan, batch, context)
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                raise
        # Out of the handler, whose traceback keeps the tensors alive. From the start: results must not depend on when.
        if batch < 4:
            raise TrainingFailed(f"too little memory on {context.device}, even for {batch} images a step")
        batch //= 2


def _train(  # noqa: PLR0912, PLR0915 - to be read from top to bottom
    make: Callable[[], L], decks: Sequence[Deck], plan: Plan, batch: int, context: Context
) -> tuple[L, tuple[str, ...]]:
    device = torch.device(context.device)
    if not all(len(deck[0]) for deck in decks):
        raise AttackFailed("there are no images to train on")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(context.seed, 0, 0))
        lesson = make()
    if device.type == "cpu":
        _keep_freed_memory()
    lesson.networks.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    for asked in lesson.frozen:
        asked.to(device=device, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
    rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in lesson.optimisers]

    version = _version(plan, decks, context)
    step, totals, told = 0, {}, list[tuple[str, int, float]]()
    kept_as = f"{plan.name}.ckpt"
    stored = checkpoints.load(context.checkpoints, kept_as) if context.checkpoints else None
    if stored is not None and stored["version"] == version and stored["batch"] <= batch:
        lesson.load(stored["lesson"])
        batch, step, totals, told = stored["batch"], stored["step"], stored["totals"], stored["told"]
        for point in told:  # whoever listened may have died with it
            context.metric(*point)
    bf16 = in_bf16(plan.precision, device)
    notes = ("trained in bfloat16",) if bf16 else ()
    if batch != plan.batch:
        notes = (*notes, f"{batch} images a step instead of {plan.batch}: too little memory")

    data = [[torch.from_numpy(array).to(device) for array in deck] for deck in decks]
    size = min(batch, len(data[0][0]))
    each = len(data[0][0]) // size  # steps an epoch; what is left over comes another time, in another order
    steps = plan.epochs * each
    fast_norms = FusedNorms(lesson.networks) if device.type == "cpu" else nullcontext()
    pulse = _Pulse(context, step / steps)
    pulse.listen([lesson.networks, *lesson.frozen], device)
    began, first, saved = time.monotonic(), step, time.monotonic()
    while step < steps:
        began_step = time.monotonic()
        epoch, within = divmod(step, each)
        if within == 0 or step == first:
            orders = [_order(context.seed, epoch, number, len(deck[0])).to(device) for number, deck in enumerate(data)]
        images = []
        for deck, order in zip(data, orders, strict=True):
            rows = order[torch.arange(within * size, (within + 1) * size, device=device) % len(order)]
            images += [array.index_select(0, rows) for array in deck]
        factor = plan.schedule(step / steps)
        for optimiser, base in zip(lesson.optimisers, rates, strict=True):
            for group, rate in zip(optimiser.param_groups, base, strict=True):
                group["lr"] = rate * factor

        with torch.autocast(device.type, torch.bfloat16, enabled=bf16), fast_norms:
            try:
                losses = lesson.step(images, torch.Generator().manual_seed(_seed(context.seed, 1, step)))
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                detail = "images as small as these cannot be learned from one at a time: raise `batch` or add images"
                raise AttackFailed(detail) from None
        totals = {name: totals.get(name, 0) + value for name, value in losses.items()}
        step += 1

        now = time.monotonic()
        last_of_epoch = step % each == 0
        figures: dict[str, float] = {}
        if last_of_epoch:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                figures = lesson.after_epoch()
        if last_of_epoch or pulse.due():
            if not all(math.isfinite(float(value)) for value in (*totals.values(), *figures.values())):
                raise _diverged("a loss", epoch + 1, plan)
            speed = (step - first) * size / (now - began)
            pulse.fraction, pulse.phase = step / steps, _phase(epoch, plan.epochs, speed, (steps - step) * size)
            pulse()
        if last_of_epoch:
            means = {name: float(total) / each for name, total in totals.items()}
            for name, figure in {**means, **figures, "images_per_second": speed}.items():
                told.append((name, epoch + 1, figure))
                context.metric(*told[-1])
            totals = {}
        last = step == steps or now + max(2 * (now - began_step), _END_SECONDS) >= context.deadline
        if context.checkpoints and (last or now - saved >= SAVE_SECONDS) and _sound(lesson):
            state = {
                "version": version, "lesson": lesson.state(), "batch": batch,
                "step": step, "totals": totals, "told": told,
            }  # fmt: skip
            checkpoints.save(context.checkpoints, kept_as, state)
            saved = now
        if last and step < steps:
            raise Cancelled
    pulse.leave()
    if not _sound(lesson):
        raise _diverged("a weight", plan.epochs, plan)
    lesson.networks.eval()
    return lesson, notes


@torch.inference_mode()
def read(network: nn.Module, images: Images, context: Context, pixels: int = 500_000) -> Images:
    """What a network in eval mode makes of images: uint8 [N, H, W, 3] -> the same. pixels: at a time."""
    out = np.empty_like(images)
    batch = max(1, pixels // (images.shape[1] * images.shape[2]))
    for i in range(0, len(images), batch):
        context.report(1.0, f"reconstructing {i} of {len(images)}")
        inputs = as_floats(torch.from_numpy(images[i : i + batch]).to(context.device))
        levels = (network(inputs).float() + 1).mul(127.5)
        if not levels.isfinite().all():  # which would come out as black
            raise TrainingFailed("training diverged: what the network makes is not a number; lower the learning rate")
        out[i : i + batch] = quantise(levels.permute(0, 2, 3, 1).cpu().numpy())
    return out


def as_floats(images: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] -> float [N, 3, H, W] in -1..1, channels last in memory."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


class _Pulse:
    """Reports often enough that a cancel, which comes as an exception from there, is seen within 2 s."""

    def __init__(self, context: Context, fraction: float) -> None:
        self.context, self.last, self.hooks = context, -math.inf, []  # type: ignore[var-annotated]
        self.fraction, self.phase = fraction, "training"

    def due(self) -> bool:
        return time.monotonic() - self.last >= PULSE_SECONDS

    def __call__(self, *_: object) -> None:
        if self.due():
            self.last = time.monotonic()
            self.context.report(self.fraction, self.phase)

    def listen(self, networks: Sequence[nn.Module], device: torch.device) -> None:
        """On a CPU one step of a large network takes a minute: look up at each layer, there and back."""
        if device.type != "cpu":
            return
        for network in networks:
            self.hooks += [module.register_forward_pre_hook(self) for module in network.modules()]
            self.hooks += [
                p.register_post_accumulate_grad_hook(self)  # type: ignore[no-untyped-call]
                for p in network.parameters()
                if p.requires_grad
            ]

    def leave(self) -> None:
        for hook in self.hooks:
            hook.remove()


def in_bf16(precision: Precision, device: torch.device) -> bool:
    if precision == "auto":
        return device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    return precision == "bf16"


def _keep_freed_memory() -> None:
    """Every step frees and asks for the same hundred megabytes; new pages from the system each time cost half of it."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _phase(epoch: int, epochs: int, speed: float, left: int) -> str:
    seconds = round(left / speed)
    eta = f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
    return f"epoch {epoch + 1} of {epochs}, {speed:.0f} images/s, {eta} left"


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence([n % 2**64 for n in numbers]).generate_state(1, np.uint64)[0])


def _order(seed: int, epoch: int, deck: int, count: int) -> Tensor:
    """The order of a deck in one epoch: known from its number alone, so that a checkpoint needs no random state."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(_seed(seed, 2, epoch, deck)))


def _version(plan: Plan, decks: Sequence[Deck], context: Context) -> str:
    """Two runs with the same version are the same run."""
    sums = [[f"{array.shape}{zlib.crc32(np.ascontiguousarray(array).data):08x}" for array in deck] for deck in decks]
    return f"{_FORMAT} {plan.name} {plan.version} {plan.epochs} {plan.batch} {plan.precision} {context.seed} {sums}"


def _sound(lesson: Lesson) -> bool:
    """Every weight and statistic is a number. A loss, which is that before the step, may be one when they are not."""
    return all(bool(values.isfinite().all()) for values in lesson.networks.state_dict().values())


def _diverged(what: str, epoch: int, plan: Plan) -> TrainingFailed:
    return TrainingFailed(
        f"training diverged: {what} is not a number in epoch {epoch} of {plan.epochs}; "
        "lower the learning rate. The last good checkpoint was kept"
    )
