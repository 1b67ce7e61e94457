"""Cells at work are cancelled: until the evaluation has ended so, in seconds, at the 95th percentile at most two."""

from __future__ import annotations

import math
import random
import time
from typing import Any

from benchmarks.chaos import images
from benchmarks.chaos.fixtures import SCHEMES, ChaosEnvironment, chaos_environment
from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from unveil.app.db.job_states import Status

_BOUND_S = 2.0
_ENDLESS_ORDERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # work that does not end by itself meanwhile
    "scoring": ({"name": "none"}, {"schemes": SCHEMES, "dataset": images.LARGE_DATASET, "keys": 64}),
    "training (ITN)": ({"name": "itn", "epochs": 2000}, {}),
    "training (GAN)": ({"name": "gan", "epochs": 2000}, {}),
}


def run(log_progress: ProgressCallback, *, tries: int = 20, seed: int = 0) -> list[FaultResult]:
    rng = random.Random(seed)
    with chaos_environment() as environment:
        rows = []
        for name, (attack, extra_order) in _ENDLESS_ORDERS.items():
            latencies, not_cancelled = [], 0
            for _ in range(tries):
                id = environment.create_evaluation([attack], **extra_order)
                environment.wait_until_running(id)
                time.sleep(rng.random())
                latencies.append(_cancel(environment, id))
                not_cancelled += environment.get_evaluation(id)["status"] != Status.CANCELLED
            latencies.sort()
            percentile_95 = latencies[math.ceil(0.95 * tries) - 1]
            log_progress(f"{name}: {percentile_95:.2f} s at the 95th percentile")
            note = f"95th percentile {percentile_95:.2f} s, bound {_BOUND_S:.0f} s"
            rows.append(
                FaultResult(
                    f"cancel, {name}", tries, tries if percentile_95 <= _BOUND_S else 0, not_cancelled, latencies, note
                )
            )
    return rows


def _cancel(environment: ChaosEnvironment, id: str) -> float:
    started_at = time.monotonic()
    environment.http.post(f"/evaluations/{id}/cancel").raise_for_status()
    while not environment.have_ended([id]):
        if time.monotonic() > started_at + 60:
            raise TimeoutError(f"{id} was not cancelled")
        time.sleep(0.02)
    return time.monotonic() - started_at
