"""Two thousand jobs through one stack: its memory and its connections at the end are those after the warm-up."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress

import psutil
import redis
from sqlalchemy import text

from benchmarks.chaos import images
from benchmarks.chaos.fixtures import SCHEMES, ChaosEnvironment, chaos_environment
from benchmarks.chaos.outcome import FaultResult, ProgressCallback

_PROCESS_NAMES = ("api", "worker-attack", "worker-encrypt")
_MAX_GROWTH = 0.05
_ATTACKS = [{"name": "none"}, {"name": "fr"}]


def run(log_progress: ProgressCallback, *, jobs: int = 2000, sample_count: int = 20) -> list[FaultResult]:
    """Half of `looks` are taken while it warms up; the next quarter is compared with the last."""
    samples: dict[str, list[float]] = defaultdict(list)
    ids: list[str] = []
    with chaos_environment() as environment:
        for number in range(1, sample_count + 1):
            ids += _run_jobs(environment, jobs // sample_count)
            for name, value in _measure_usage(environment).items():
                samples[name].append(value)
            summary = ", ".join(f"{name} {values[-1]:.0f}" for name, values in samples.items())
            log_progress(f"{number * jobs // sample_count} jobs: {summary}")
        damaged = environment.count_damaged_cells(ids)
    rows = []
    for name, values in samples.items():
        middle_values, last_values = values[sample_count // 2 : 3 * sample_count // 4], values[3 * sample_count // 4 :]
        before, after = statistics.median(middle_values), statistics.median(last_values)
        growth = after / before - 1
        note = f"{before:.0f} after {jobs // 2} jobs, {after:.0f} after {jobs}: {growth:+.1%}"
        rows.append(FaultResult(f"soak: {name}", 1, int(growth <= _MAX_GROWTH), damaged, note=note))
    return rows


def _run_jobs(environment: ChaosEnvironment, jobs: int) -> list[str]:
    """Order, read, encrypt, wait for the end."""
    ids = environment.create_evaluations(jobs, attacks=_ATTACKS, schemes=SCHEMES)
    for _ in ids:
        files = {"images": ("a.png", images.png(0), "image/png")}
        environment.http.post("/encrypt", data={"scheme": "tanaka"}, files=files).raise_for_status()
    environment.wait_until_ended(*ids, timeout_s=900)
    for id in ids:
        environment.get_evaluation(id)
        environment.http.get(f"/evaluations/{id}/report.html").raise_for_status()
    return ids


def _measure_usage(environment: ChaosEnvironment) -> Mapping[str, float]:
    usage: dict[str, float] = {}
    for part in _PROCESS_NAMES:
        leader = psutil.Process(environment.pid(part))
        mib = 0.0
        for process in (leader, *leader.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                mib += process.memory_full_info().uss / 2**20
        usage[f"MiB of {part}"] = mib
    with environment.sessions() as session:
        usage["connections to PostgreSQL"] = session.scalar(text("SELECT count(*) FROM pg_stat_activity")) or 0
    with redis.Redis.from_url(environment.stack.settings.redis_url) as client:
        usage["connections to Redis"] = len(client.client_list())
    return usage
