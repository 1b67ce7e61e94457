"""How an attack or a key training runs: seed, device, progress, checkpoints, deadline."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from unveil.models.core.checkpoints import CheckpointStore


def _noop(*_: Any) -> None:
    pass


def _compute(name: str, compute: Callable[[], bytes]) -> bytes:  # noqa: ARG001
    return compute()


@dataclasses.dataclass(frozen=True)
class RunContext:
    """How an attack runs, or a key is trained: seed, device, and where it tells how far it has come.

    report(fraction, phase) and metric(name, step, value) may raise Cancelled. shared(name, make) answers what `make`
    made, now or earlier in the same evaluation: the name holds all that it depends on. deadline: on time.monotonic's
    clock; a training keeps a checkpoint and stops before it.
    """

    seed: int = 0
    device: str = "cpu"
    checkpoints: CheckpointStore | None = None  # None: keep none
    report: Callable[[float, str], None] = _noop
    metric: Callable[[str, int, float], None] = _noop
    memoize: Callable[[str, Callable[[], bytes]], bytes] = _compute
    deadline: float = math.inf

    def scoped(self, name: str, start: float, end: float) -> RunContext:
        """For a part of the work: checkpoints and metrics of its own, progress from `begin` to `end`."""
        return dataclasses.replace(
            self,
            checkpoints=self.checkpoints and self.checkpoints.child(name),
            report=lambda fraction, phase: self.report(start + (end - start) * fraction, f"{name}: {phase}"),
            metric=lambda metric, step, value: self.metric(f"{name}_{metric}", step, value),
        )
