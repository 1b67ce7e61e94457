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
_RELIABLE_PROGRESS = 0.2  # from this progress on a running job's own pace alone counts


@dataclass(frozen=True)
class JobProgress:
    """A cell, or a key in training."""

    kind: str  # jobs of one kind take about as long: the attack of a cell
    trains: bool
    status: Status
    progress: float
    started_at: datetime | None
    finished_at: datetime | None
    estimated_seconds: float = 0.0  # at creation, on one core; 0: created by a version without estimates

    @property
    def groups(self) -> tuple[str | bool, str | bool]:
        """Jobs with durations alike: those of its kind, then those that train as it does or do not."""
        return self.kind, self.trains


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
    """Assumes the current number of running jobs. None if nothing is known of the duration of a job."""
    known = _KnownDurations(jobs, now)
    running, waiting = list[float](), list[float]()
    for job in jobs:
        if job.status in TERMINAL:
            continue
        duration = known.estimate(job)
        if duration is None:
            return None
        if job.status == Status.QUEUED:
            waiting.append(duration)
        else:
            running.append(max(0.0, duration - _elapsed_seconds(job, now)))
    return max([*running, (sum(running) + sum(waiting)) / max(1, len(running))])


class _KnownDurations:
    """Durations that the jobs of an evaluation show, in seconds: of ended jobs, and extrapolated for running ones."""

    def __init__(self, jobs: Sequence[JobProgress], now: datetime) -> None:
        self._now = now
        ended = [job for job in jobs if job.status == Status.SUCCEEDED]
        self._ended = _mean_by_group(ended, [_elapsed_seconds(job, job.finished_at or now) for job in ended])
        running = [job for job in jobs if self._extrapolate(job) is not None]
        self._running = _mean_by_group(running, [self._extrapolate(job) or 0.0 for job in running])
        self._scale = {
            trains: _ratio(
                [
                    (_elapsed_seconds(job, job.finished_at or now), job.estimated_seconds)
                    for job in ended
                    if job.trains == trains
                ]
            )
            for trains in (False, True)
        }

    def estimate(self, job: JobProgress) -> float | None:
        """The whole duration of a job. The own pace of a running job gradually replaces what is known of others."""
        own, other = self._extrapolate(job), self._estimate_from_ended(job)
        if own is not None and other is not None:
            weight = min(1.0, job.progress / _RELIABLE_PROGRESS)
            return weight * own + (1 - weight) * other
        candidates = (own, other, *(means.get(group) for group in job.groups for means in (self._ended, self._running)))
        return next((seconds for seconds in candidates if seconds is not None), None)

    def _estimate_from_ended(self, job: JobProgress) -> float | None:
        """As long as ended jobs of its kind, or else its estimated cost at the pace of ended jobs."""
        scale = self._scale[job.trains]
        scaled = None if scale is None or not job.estimated_seconds else scale * job.estimated_seconds
        return self._ended.get(job.kind, scaled)

    def _extrapolate(self, job: JobProgress) -> float | None:
        if job.status != Status.RUNNING or job.progress < _MIN_PROGRESS_FOR_ESTIMATE:
            return None
        return _elapsed_seconds(job, self._now) / job.progress


def _mean_by_group(jobs: Sequence[JobProgress], durations: Sequence[float]) -> dict[str | bool, float]:
    by_group: dict[str | bool, list[float]] = defaultdict(list)
    for job, duration in zip(jobs, durations, strict=True):
        for group in job.groups:
            by_group[group].append(duration)
    return {group: fmean(times) for group, times in by_group.items()}


def _ratio(measured_and_estimated: Sequence[tuple[float, float]]) -> float | None:
    """Measured seconds per estimated second, over jobs that have an estimate."""
    pairs = [pair for pair in measured_and_estimated if pair[1] > 0]
    return sum(measured for measured, _ in pairs) / sum(estimated for _, estimated in pairs) if pairs else None


def _elapsed_seconds(job: JobProgress, until: datetime) -> float:
    return 0.0 if job.started_at is None else max(0.0, (until - job.started_at).total_seconds())
