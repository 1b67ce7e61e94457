"""Progress and remaining time of an evaluation: pure functions of its cells and trained keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean

from unveil.app.db.job_states import COMPLETED, TERMINAL, Status

_TRAINING_WEIGHT = 20.0  # weight of a training job relative to another one in overall progress (minutes and seconds)
_MIN_PROGRESS_FOR_ESTIMATE = 0.01  # below this progress an estimate of the duration is meaningless


@dataclass(frozen=True)
class JobProgress:
    """A cell, or a key in training."""

    kind: str  # jobs of one kind take about as long: the attack of a cell
    trains: bool
    status: Status
    progress: float
    started_at: datetime | None
    finished_at: datetime | None


def weighted_progress(jobs: Sequence[JobProgress]) -> float:
    """Mean progress, 0 to 1, in which training jobs weigh more. It never decreases."""
    weights = [(_TRAINING_WEIGHT if job.trains else 1.0) * (job.status != Status.NOT_APPLICABLE) for job in jobs]
    job_progress = [1.0 if job.status in COMPLETED else job.progress for job in jobs]
    total_weight = sum(weights)
    return (
        sum(weight * progress for weight, progress in zip(weights, job_progress, strict=True)) / total_weight
        if total_weight
        else 1.0
    )


def estimate_remaining_seconds(jobs: Sequence[JobProgress], now: datetime) -> float | None:
    """Assumes the current number of running jobs. None if no job of a kind has a known duration."""
    durations: dict[str | bool, list[float]] = defaultdict(list)  # by kind, and by whether the job trains
    for job in jobs:
        duration = _estimate_duration(job, now)
        if duration is not None:
            durations[job.kind].append(duration)
            durations[job.trains].append(duration)
    means = {group: fmean(times) for group, times in durations.items()}
    running, waiting = list[float](), list[float]()
    for job in jobs:
        if job.status in TERMINAL:
            continue
        candidates = (_estimate_duration(job, now), means.get(job.kind), means.get(job.trains))
        estimate = next((seconds for seconds in candidates if seconds is not None), None)
        if estimate is None:
            return None
        if job.status == Status.QUEUED:
            waiting.append(estimate)
        else:
            running.append(max(0.0, estimate - _elapsed_seconds(job, now)))
    return max([*running, (sum(running) + sum(waiting)) / max(1, len(running))])


def _estimate_duration(job: JobProgress, now: datetime) -> float | None:
    """The duration of an ended job, extrapolated from its progress for a running one."""
    if job.status == Status.SUCCEEDED:
        return _elapsed_seconds(job, job.finished_at or now)
    if job.status == Status.RUNNING and job.progress >= _MIN_PROGRESS_FOR_ESTIMATE:
        return _elapsed_seconds(job, now) / job.progress
    return None


def _elapsed_seconds(job: JobProgress, until: datetime) -> float:
    return 0.0 if job.started_at is None else max(0.0, (until - job.started_at).total_seconds())
