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
from benchmarks.chaos.fixtures import SCHEMES, Scene, scene
from benchmarks.chaos.outcome import Outcome, Tell

_PARTS = ("api", "worker-attack", "worker-encrypt")
_FLAT = 0.05
_CELLS = 10  # of each evaluation: five schemes under two attacks
_ATTACKS = [{"name": "none"}, {"name": "fr"}]


def run(tell: Tell, *, jobs: int = 2000, looks: int = 20) -> list[Outcome]:
    """Half of `looks` are taken while it warms up; the next quarter is compared with the last."""
    seen: dict[str, list[float]] = defaultdict(list)
    ids: list[str] = []
    with scene() as there:
        for number in range(1, looks + 1):
            ids += _work(there, jobs // looks // _CELLS)
            for name, value in _look(there).items():
                seen[name].append(value)
            told = ", ".join(f"{name} {values[-1]:.0f}" for name, values in seen.items())
            tell(f"{number * jobs // looks} jobs: {told}")
        harmed = there.harmed(ids)
    rows = []
    for name, values in seen.items():
        third, last = values[looks // 2 : 3 * looks // 4], values[3 * looks // 4 :]
        before, after = statistics.median(third), statistics.median(last)
        growth = after / before - 1
        note = f"{before:.0f} after {jobs // 2} jobs, {after:.0f} after {jobs}: {growth:+.1%}"
        rows.append(Outcome(f"soak: {name}", 1, int(growth <= _FLAT), harmed, note=note))
    return rows


def _work(there: Scene, evaluations: int) -> list[str]:
    """Order, read, encrypt, wait for the end."""
    ids = [there.order(_ATTACKS, schemes=SCHEMES) for _ in range(evaluations)]
    for _ in ids:
        files = {"images": ("a.png", images.png(0), "image/png")}
        there.http.post("/encrypt", data={"scheme": "tanaka"}, files=files).raise_for_status()
    there.until_ended(*ids, patience_s=900)
    for id in ids:
        there.show(id)
        there.http.get(f"/evaluations/{id}/report.html").raise_for_status()
    return ids


def _look(there: Scene) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for part in _PARTS:
        leader = psutil.Process(there.pid(part))
        mib = 0.0
        for process in (leader, *leader.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                mib += process.memory_full_info().uss / 2**20
        found[f"MiB of {part}"] = mib
    with there.sessions() as session:
        found["connections to PostgreSQL"] = session.scalar(text("SELECT count(*) FROM pg_stat_activity")) or 0
    with redis.Redis.from_url(there.stack.settings.redis_url) as client:
        found["connections to Redis"] = len(client.client_list())
    return found
