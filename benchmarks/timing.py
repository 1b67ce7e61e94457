"""Timing two ways of doing one job in turn, so that a drifting machine is unfair to neither."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Timed = tuple[Callable[[], object], int]  # what to run, and how many images it does


@dataclass(frozen=True)
class Job:
    name: str
    peer_name: str
    ours: Timed
    peer: Timed
    limit: tuple[str, Timed] | None = None


@dataclass(frozen=True)
class Measured:
    """Microseconds an image, medians; ratio: the median of peer / ours, pair by pair."""

    name: str
    peer_name: str
    ours_us: float
    peer_us: float
    ratio: float
    limit_name: str | None
    limit_us: float | None


def measure(job: Job, seconds: float = 3.0) -> Measured:
    """Runs ours, the peer, ours, ... for about `seconds`, at least five pairs after one warm-up."""
    _once(job.ours), _once(job.peer)
    ours: list[float] = []
    peer: list[float] = []
    until = time.perf_counter() + seconds
    while len(ours) < 5 or time.perf_counter() < until:
        ours.append(_once(job.ours))
        peer.append(_once(job.peer))
    limit = None if job.limit is None else statistics.median(_once(job.limit[1]) for _ in range(9))
    return Measured(
        job.name,
        job.peer_name,
        statistics.median(ours),
        statistics.median(peer),
        statistics.median(p / o for o, p in zip(ours, peer, strict=True)),
        None if job.limit is None else job.limit[0],
        limit,
    )


def _once(timed: Timed) -> float:
    run, images = timed
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) / images * 1e6
