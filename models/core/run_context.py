"""The run context of an attack or a key training: seed, device, progress, checkpoints, memoization, deadline."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from unveil.models.core.checkpoints import CheckpointStore

OnStep = Callable[[], None]  # called between the steps of a long computation; may raise Cancelled


def _noop(*_: Any) -> None:
    pass


def _compute(name: str, compute: Callable[[], bytes]) -> bytes:  # noqa: ARG001
    return compute()


@dataclasses.dataclass(frozen=True)
class RunContext:
    """How an attack or a key training runs, independent of its settings.

    report(fraction, phase) receives progress in 0..1, metric(name, step, value) the points of a curve; both may raise
    Cancelled. memoize(name, compute) returns the result of `compute`, computed now or earlier in the same evaluation;
    the name must contain everything on which the result depends. deadline: on the clock of time.monotonic; a training
    writes a checkpoint and stops before it. ablation: whether the attack also reconstructs from less input
    (`AttackResult.ablation`); controls do not need it.
    """

    seed: int = 0
    device: str = "cpu"
    checkpoints: CheckpointStore | None = None  # None: no checkpoints
    report: Callable[[float, str], None] = _noop
    metric: Callable[[str, int, float], None] = _noop
    memoize: Callable[[str, Callable[[], bytes]], bytes] = _compute
    deadline: float = math.inf
    ablation: bool = True

    def scoped(self, name: str, start: float, end: float) -> RunContext:
        """A context for one part of the work: separate checkpoints and metrics, progress from `start` to `end`."""
        return dataclasses.replace(
            self,
            checkpoints=self.checkpoints and self.checkpoints.child(name),
            report=lambda fraction, phase: self.report(start + (end - start) * fraction, f"{name}: {phase}"),
            metric=lambda metric, step, value: self.metric(f"{name}_{metric}", step, value),
        )
