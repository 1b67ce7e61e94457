"""How far an evaluation has come, and how long it still takes: pure functions of its cells and the keys it trains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean

from unveil.app.db.job_states import DONE, ENDED, Status

_LONG = 20.0  # what a job that trains weighs in the whole beside one that does not: roughly, from seconds to minutes
_FROM = 0.01  # of a job's progress: below, its end is a guess from next to nothing


@dataclass(frozen=True)
class Work:
    """A cell, or a key in training, as far as its time is concerned."""

    kind: str  # what takes about as long: the attack of a cell
    long: bool  # trains networks
    status: Status
    progress: float
    started_at: datetime | None
    finished_at: datetime | None


def fraction(works: Sequence[Work]) -> float:
    """0..1, never falling: the mean progress, in which what trains weighs more."""
    weights = [(_LONG if work.long else 1.0) * (work.status != Status.NOT_APPLICABLE) for work in works]
    come = [1.0 if work.status in DONE else work.progress for work in works]
    whole = sum(weights)
    return sum(weight * part for weight, part in zip(weights, come, strict=True)) / whole if whole else 1.0


def seconds_left(works: Sequence[Work], now: datetime) -> float | None:
    """As many jobs at once as run now; None as long as nothing tells how long one of them takes."""
    known: dict[str | bool, list[float]] = defaultdict(list)  # of a kind, and of all that are long or not
    for work in works:
        took = _takes(work, now)
        if took is not None:
            known[work.kind].append(took)
            known[work.long].append(took)
    means = {like: fmean(times) for like, times in known.items()}
    running, waiting = list[float](), list[float]()
    for work in works:
        if work.status in ENDED:
            continue
        nearest = (_takes(work, now), means.get(work.kind), means.get(work.long))
        likely = next((seconds for seconds in nearest if seconds is not None), None)
        if likely is None:
            return None
        if work.status == Status.QUEUED:
            waiting.append(likely)
        else:
            running.append(max(0.0, likely - _elapsed(work, now)))
    return max([*running, (sum(running) + sum(waiting)) / max(1, len(running))])


def _takes(work: Work, now: datetime) -> float | None:
    """How long it took, or will have taken by its own account."""
    if work.status == Status.SUCCEEDED:
        return _elapsed(work, work.finished_at or now)
    if work.status == Status.RUNNING and work.progress >= _FROM:
        return _elapsed(work, now) / work.progress
    return None


def _elapsed(work: Work, until: datetime) -> float:
    return 0.0 if work.started_at is None else max(0.0, (until - work.started_at).total_seconds())
