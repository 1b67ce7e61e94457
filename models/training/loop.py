"""The training loop of every network in the product.

A `TrainingTask` defines the networks, the optimizers and one step. The loop adds the order of the images, learning
rates, precision, progress, cancellation and checkpoints. A run is a function of its task, images, configuration and
seed: a run that is interrupted anywhere and resumed ends at the same weights, bit for bit on a CPU.
"""

from __future__ import annotations

import ctypes
import math
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from unveil.models.core import checkpoints
from unveil.models.core.errors import AttackFailed, DeadlineReached, OutOfMemory, TrainingFailed
from unveil.models.core.images import Images, quantise
from unveil.models.core.run_context import RunContext
from unveil.models.training import memory

TensorGroup = Sequence[npt.NDArray[Any]]  # arrays [N, ...] shuffled together; groups are shuffled independently
Schedule = Callable[[float], float]  # completed fraction of the training -> factor on every learning rate

Precision = Literal["auto", "fp32", "bf16"]  # auto: bfloat16 if the device supports it natively

CHECKPOINT_INTERVAL_SECONDS = 60.0
_FINAL_CHECKPOINT_SECONDS = 2.0  # reserved before the deadline for the last checkpoint
_CHECKPOINT_FORMAT = 4  # checkpoints of another format are ignored
CANCEL_CHECK_SECONDS = 0.5  # interval between progress reports, which is where a cancellation arrives
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


class TrainingTask(ABC):
    """The networks, optimizers and step of one training. __init__ creates all weights, because the loop seeds it.

    frozen: further networks that the step evaluates; the loop keeps them in eval mode without gradients.
    """

    networks: nn.ModuleDict
    optimizers: Sequence[torch.optim.Optimizer]
    frozen: Sequence[nn.Module] = ()

    @abstractmethod
    def step(self, images: list[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Train on one batch -> the losses, detached.

        images: one tensor for each array of each tensor group, such as uint8 [N, H, W, 3] or labels [N]. Every random
        number must come from `generator` (on the CPU); otherwise a resumed run diverges from an uninterrupted one.
        """

    def after_epoch(self) -> dict[str, float]:
        """Metrics at the end of an epoch, such as a validation loss. State that it keeps belongs in `state_dict`."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"networks": self.networks.state_dict(), "optimisers": [o.state_dict() for o in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.networks.load_state_dict(state_dict["networks"])
        for optimizer, values in zip(self.optimizers, state_dict["optimisers"], strict=True):
            optimizer.load_state_dict(values)


TaskT = TypeVar("TaskT", bound=TrainingTask)


@dataclass(frozen=True)
class TrainingConfig:
    """Length and speed of a training. name: of the checkpoint; version: whatever else distinguishes two runs.

    min_batch_size: with too little memory for this many images per step, a training fails; above it, it continues with
    a note.
    """

    name: str
    epochs: int
    batch_size: int
    lr_schedule: Schedule
    version: str = ""
    precision: Precision = "auto"
    min_batch_size: int = 2


def constant(fraction: float) -> float:  # noqa: ARG001
    """No change of the learning rates."""
    return 1.0


def step_decay(*fractions: float, factor: float = 0.1) -> Schedule:
    """Multiply by `factor` at each of the given fractions of the training."""
    return lambda fraction: float(factor ** sum(fraction >= a for a in fractions))


def linear_decay(fraction: float) -> float:
    """Constant for half of the training, then linear to 0."""
    return min(1.0, 2 * (1 - fraction))


def cosine(fraction: float, warmup: float = 0.05) -> float:
    """Linear warm-up, then half a cosine to 0."""
    return min(1.0, (fraction + 1e-3) / warmup) * (
        0.5 + 0.5 * math.cos(math.pi * max(0.0, fraction - warmup) / (1 - warmup))
    )


def train(
    make_task: Callable[[], TaskT], tensor_groups: Sequence[TensorGroup], config: TrainingConfig, context: RunContext
) -> tuple[TaskT, tuple[str, ...]]:
    """Create a task and train it -> the task, and notes on deviations from the configuration.

    An epoch is one pass over the first tensor group. Raises AttackFailed (no images; a loss or weight that is not
    finite; too little memory even for two images per step) and what `context.report` and `context.metric` raise; the
    last checkpoint is kept.
    """
    batch_size = config.batch_size
    while True:
        try:
            return _train(make_task, tensor_groups, config, batch_size, context)
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise
        # Outside the handler, whose traceback keeps the tensors alive. The next try starts from the first step, because
        # results must not depend on when memory ran out. A process at its limit cannot try again: its heap is split.
        limit = memory.process_limit()
        if limit is not None:
            raise memory.limit_exceeded(batch_size, limit)
        if batch_size // 2 < config.min_batch_size:
            raise OutOfMemory(f"too little memory on {context.device} even for {batch_size} images per step")
        batch_size //= 2


def _train(  # noqa: PLR0912, PLR0915 - one function that reads from top to bottom
    make_task: Callable[[], TaskT],
    tensor_groups: Sequence[TensorGroup],
    config: TrainingConfig,
    batch_size: int,
    context: RunContext,
) -> tuple[TaskT, tuple[str, ...]]:
    device = torch.device(context.device)
    if not all(len(arrays[0]) for arrays in tensor_groups):
        raise AttackFailed("there are no images to train on")
    bf16 = uses_bf16(config.precision, device)
    checkpoint_name, version = f"{config.name}.ckpt", _run_version(config, tensor_groups, context)
    checkpoint = checkpoints.load(context.checkpoints, checkpoint_name) if context.checkpoints else None
    if checkpoint is not None and (checkpoint["version"] != version or checkpoint["batch"] > batch_size):
        checkpoint = None
    if checkpoint is None and device.type == "cpu":  # a GPU that runs out of memory can start again
        batch_size = min(batch_size, _fit_batch_size(make_task, tensor_groups, config, context))
    task = _make_task(make_task, context)
    if device.type == "cpu":
        _tune_malloc()
    base_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in task.optimizers]

    step, totals, logged_metrics = 0, {}, list[tuple[str, int, float]]()
    if checkpoint is not None:
        task.load_state_dict(checkpoint["lesson"])
        batch_size, step, totals, logged_metrics = (checkpoint[name] for name in ("batch", "step", "totals", "told"))
        for point in logged_metrics:  # the process that recorded them may have crashed before storing them
            context.metric(*point)
    notes = ("trained in bfloat16",) if bf16 else ()
    if batch_size != config.batch_size:
        notes = (*notes, f"{batch_size} images per step instead of {config.batch_size}: too little memory")

    data = [[torch.from_numpy(array).to(device) for array in arrays] for arrays in tensor_groups]
    images_per_step = min(batch_size, len(data[0][0]))
    steps_per_epoch = len(data[0][0]) // images_per_step  # the remainder is dropped, other images in each epoch
    steps = config.epochs * steps_per_epoch
    progress_hook = _ProgressHook(context, step / steps)
    progress_hook.register([task.networks, *task.frozen], device)
    started_at, first_step, saved_at = time.monotonic(), step, time.monotonic()
    while step < steps:
        step_started_at = time.monotonic()
        epoch, step_in_epoch = divmod(step, steps_per_epoch)
        if step_in_epoch == 0 or step == first_step:
            permutations = [
                _draw_permutation(context.seed, epoch, number, len(arrays[0])).to(device)
                for number, arrays in enumerate(data)
            ]
        images = []
        for arrays, permutation in zip(data, permutations, strict=True):
            rows = permutation[
                torch.arange(step_in_epoch * images_per_step, (step_in_epoch + 1) * images_per_step, device=device)
                % len(permutation)
            ]
            images += [array.index_select(0, rows) for array in arrays]
        factor = config.lr_schedule(step / steps)
        for optimizer, base in zip(task.optimizers, base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = rate * factor

        losses = _run_step(task, images, _derive_seed(context.seed, 1, step), bf16)
        totals = {name: totals.get(name, 0) + value for name, value in losses.items()}
        step += 1

        now = time.monotonic()
        is_epoch_end = step % steps_per_epoch == 0
        epoch_metrics: dict[str, float] = {}
        if is_epoch_end:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                epoch_metrics = task.after_epoch()
        if is_epoch_end or progress_hook.is_due():
            if not all(math.isfinite(float(value)) for value in (*totals.values(), *epoch_metrics.values())):
                raise _divergence_error("a loss", epoch + 1, config)
            images_per_second = (step - first_step) * images_per_step / (now - started_at)
            progress_hook.fraction, progress_hook.phase = (
                step / steps,
                _format_phase(epoch, config.epochs, images_per_second, (steps - step) * images_per_step),
            )
            progress_hook()
        if is_epoch_end:
            means = {name: float(total) / steps_per_epoch for name, total in totals.items()}
            for name, metric_value in {**means, **epoch_metrics, "images_per_second": images_per_second}.items():
                logged_metrics.append((name, epoch + 1, metric_value))
                context.metric(*logged_metrics[-1])
            totals = {}
        is_last_step = (
            step == steps or now + max(2 * (now - step_started_at), _FINAL_CHECKPOINT_SECONDS) >= context.deadline
        )
        if (
            context.checkpoints
            and (is_last_step or now - saved_at >= CHECKPOINT_INTERVAL_SECONDS)
            and _weights_are_finite(task)
        ):
            # These two names are those of version 0.1, so that its checkpoints can be resumed.
            state = {
                "version": version, "lesson": task.state_dict(), "batch": batch_size,
                "step": step, "totals": totals, "told": logged_metrics,
            }  # fmt: skip
            checkpoints.save(context.checkpoints, checkpoint_name, state)
            saved_at = now
        if is_last_step and step < steps:
            raise DeadlineReached
    progress_hook.remove()
    if not _weights_are_finite(task):
        raise _divergence_error("a weight", config.epochs, config)
    task.networks.eval()
    return task, notes


def _make_task(make_task: Callable[[], TaskT], context: RunContext) -> TaskT:
    """A task with the weights of the first step, on the device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_derive_seed(context.seed, 0, 0))
        task = make_task()
    task.networks.to(device=context.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    for network in task.frozen:
        network.to(device=context.device, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
    return task


def _run_step(task: TrainingTask, images: list[Tensor], seed: int, bf16: bool) -> dict[str, Tensor]:
    """One step of the task -> its losses. Raises AttackFailed if a batch normalisation sees a single value."""
    with torch.autocast(images[0].device.type, torch.bfloat16, enabled=bf16):
        try:
            return task.step(images, torch.Generator().manual_seed(seed))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            detail = "batch normalisation needs more than one such small image a step: raise `batch` or add images"
            raise AttackFailed(detail) from None


def _fit_batch_size(
    make_task: Callable[[], TrainingTask], groups: Sequence[TensorGroup], config: TrainingConfig, context: RunContext
) -> int:
    """The batch size, or its half, quarter, ... that fits into memory, estimated by steps of tasks of their own."""
    device = torch.device(context.device)

    def run_step(count: int) -> None:
        task = _make_task(make_task, context)
        hook = _ProgressHook(context, 0.0, "estimating the memory of a step")
        hook.register([task.networks, *task.frozen], device)
        rows = [array[np.arange(count) % len(array)] for arrays in groups for array in arrays]
        _run_step(task, [torch.from_numpy(array) for array in rows], 0, uses_bf16(config.precision, device))

    images_per_step = min(config.batch_size, len(groups[0][0]))
    fitting = memory.fit_batch_size(run_step, images_per_step, config.min_batch_size)
    return config.batch_size if fitting == images_per_step else fitting


@torch.inference_mode()
def reconstruct(network: nn.Module, images: Images, context: RunContext, max_pixels_per_batch: int = 500_000) -> Images:
    """The output images of a network in eval mode: uint8 [N, H, W, 3] -> the same. Raises TrainingFailed for NaN."""
    out = np.empty_like(images)
    batch_size = max(1, min(len(images), max_pixels_per_batch // (images.shape[1] * images.shape[2])))
    if context.device == "cpu":
        batch_size = memory.fit_batch_size(
            lambda count: network(to_model_input(torch.zeros(count, *images.shape[1:], dtype=torch.uint8))),
            batch_size,
            min_batch_size=1,
        )
    for i in range(0, len(images), batch_size):
        context.report(1.0, f"reconstructing {i} of {len(images)}")
        inputs = to_model_input(torch.from_numpy(images[i : i + batch_size]).to(context.device))
        levels = (network(inputs).float() + 1).mul(127.5)
        if not levels.isfinite().all():  # would become black images
            raise TrainingFailed("training diverged: the output of the network is not finite; lower the learning rate")
        out[i : i + batch_size] = quantise(levels.permute(0, 2, 3, 1).cpu().numpy())
    return out


def to_model_input(images: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] -> float [N, 3, H, W] in -1..1, channels last in memory."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


class _ProgressHook:
    """Reports progress often enough that a cancellation, which the report raises, takes effect within 2 s."""

    def __init__(self, context: RunContext, fraction: float, phase: str = "training") -> None:
        self.context, self.last_report_at, self.hooks = context, -math.inf, []  # type: ignore[var-annotated]
        self.fraction, self.phase = fraction, phase

    def is_due(self) -> bool:
        return time.monotonic() - self.last_report_at >= CANCEL_CHECK_SECONDS

    def __call__(self, *_: object) -> None:
        if self.is_due():
            self.last_report_at = time.monotonic()
            self.context.report(self.fraction, self.phase)

    def register(self, networks: Sequence[nn.Module], device: torch.device) -> None:
        """Report in every forward and backward layer: on a CPU one step of a large network takes a minute."""
        if device.type != "cpu":
            return
        for network in networks:
            self.hooks += [module.register_forward_pre_hook(self) for module in network.modules()]
            self.hooks += [
                p.register_post_accumulate_grad_hook(self)  # type: ignore[no-untyped-call]
                for p in network.parameters()
                if p.requires_grad
            ]

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()


def uses_bf16(precision: Precision, device: torch.device) -> bool:
    if precision == "auto":
        return device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    return precision == "bf16"


def _tune_malloc() -> None:
    """Keep freed memory in the process: every step reuses the same 100 MB, and new pages cost half of the time."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc; TypeError: Windows loads no nameless library
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _format_phase(epoch: int, epochs: int, images_per_second: float, images_left: int) -> str:
    seconds = round(images_left / images_per_second)
    eta = f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
    return f"epoch {epoch + 1} of {epochs}, {images_per_second:.0f} images/s, {eta} left"


def _derive_seed(*numbers: int) -> int:
    """A seed for one purpose. torch uses 32 bits of it; those of weights, epochs and steps together keep 256 bits."""
    pool_size = 8 if max(map(abs, numbers)) >= 2**64 else 4  # 32-bit words that the sequence mixes the numbers into
    sequence = np.random.SeedSequence([n % 2**256 for n in numbers], pool_size=pool_size)
    return int(sequence.generate_state(1, np.uint64)[0])


def _draw_permutation(seed: int, epoch: int, group_index: int, count: int) -> Tensor:
    """The order of a tensor group in one epoch, a function of numbers, so that a checkpoint needs no random state."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(_derive_seed(seed, 2, epoch, group_index)))


def _run_version(config: TrainingConfig, tensor_groups: Sequence[TensorGroup], context: RunContext) -> str:
    """The identity of a run: a checkpoint is resumed only by a run with the same version."""
    checksums = [
        [f"{array.shape}{zlib.crc32(np.ascontiguousarray(array).data):08x}" for array in group]
        for group in tensor_groups
    ]
    return (
        f"{_CHECKPOINT_FORMAT} {config.name} {config.version} {config.epochs} {config.batch_size} "
        f"{config.precision} {context.seed} {checksums}"
    )


def _weights_are_finite(task: TrainingTask) -> bool:
    """Whether all weights and statistics are finite; the loss, computed before the step, can be finite regardless."""
    return all(bool(values.isfinite().all()) for values in task.networks.state_dict().values())


def _divergence_error(quantity: str, epoch: int, config: TrainingConfig) -> TrainingFailed:
    return TrainingFailed(
        f"training diverged: {quantity} is not a number in epoch {epoch} of {config.epochs}; "
        "lower the learning rate. The last good checkpoint was kept"
    )
