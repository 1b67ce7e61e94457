"""Timing two ways of doing one job in turn, so that a drifting machine is unfair to neither.

Times are of the processor, on one thread: what a busy neighbour takes counts little, and on a quiet machine they are
the clock's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.results import Goal, Row

TimedWork = tuple[Callable[[], object], int]  # what to run, and how many images it does


@dataclass(frozen=True)
class Job:
    name: str
    peer_name: str
    ours: TimedWork
    peer: TimedWork
    limit: tuple[str, TimedWork] | None = None
    goal: Goal | None = None
    unit: str = "us an image"


def measure(job: Job, seconds: float = 3.0) -> Row:
    """Runs ours, the peer, ours, ... for about `seconds`, at least three pairs after one warm-up; medians."""
    scale = 1e6 if job.unit.startswith("us") else 1e3
    _seconds_per_image(job.ours), _seconds_per_image(job.peer)
    ours: list[float] = []
    peer: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(ours) < 3 or time.perf_counter() < deadline:
        ours.append(_seconds_per_image(job.ours) * scale)
        peer.append(_seconds_per_image(job.peer) * scale)
    return Row(
        job.name,
        job.unit,
        ours=statistics.median(ours),
        peer=(job.peer_name, statistics.median(peer)),
        ratio=statistics.median(p / o for o, p in zip(ours, peer, strict=True)),
        limit=job.limit
        and (job.limit[0], statistics.median(_seconds_per_image(job.limit[1]) * scale for _ in range(9))),
        goal=job.goal,
    )


def _seconds_per_image(timed: TimedWork) -> float:
    run, images = timed
    start = time.process_time()
    run()
    return (time.process_time() - start) / images
