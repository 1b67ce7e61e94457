"""A cell that costs every worker its life, as one that runs out of memory does: it fails, and its neighbours do not.

The kernel's killer is played by us: whichever process takes the cell gets SIGKILL.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from sqlalchemy import select

from benchmarks.chaos import images
from benchmarks.chaos.fixtures import ChaosEnvironment, chaos_environment
from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell

_MAX_STALLS = 5  # the product's own
_LONG_ORDER = {"dataset": images.LARGE_DATASET, "keys": 64}
_TIMEOUT_S = 240.0


def run(log_progress: ProgressCallback, *, times: int = 3, neighbours: int = 20) -> list[FaultResult]:
    survived, lost, seconds = 0, 0, []
    with chaos_environment(attack_workers=2, UNVEIL_MAX_ATTEMPTS_WITHOUT_PROGRESS=str(_MAX_STALLS)) as environment:
        for number in range(times):
            # One of the cells of its evaluation is poison; the evaluations around it are ordered before and after.
            ids = environment.create_evaluations(neighbours // 2)
            poisoned = environment.create_evaluation([{"name": "fr"}, {"name": "none"}], seed=number, **_LONG_ORDER)
            ids += environment.create_evaluations(neighbours // 2)
            deaths, elapsed = _kill_every_worker_of(environment, environment.cells([poisoned])[0]["id"])
            environment.wait_until_ended(poisoned, *ids)
            bad, good, *_ = environment.cells([poisoned])
            damaged = environment.count_damaged_cells(ids) + (good["status"] != Status.SUCCEEDED)
            is_expected = (bad["status"], (bad["error"] or {}).get("code"), deaths) == (
                Status.FAILED,
                "poison",
                _MAX_STALLS,
            )
            log_progress(
                f"{bad['status']} as {bad['error']} after {deaths} deaths, {elapsed:.1f} s; {damaged} neighbours harmed"
            )
            survived += is_expected and not damaged
            lost += damaged
            seconds.append(elapsed)
    note = f"{_MAX_STALLS} deaths each until it failed; {neighbours} neighbours or more, one in its own evaluation"
    return [FaultResult("poison cell", times, survived, lost, seconds, note)]


def _kill_every_worker_of(environment: ChaosEnvironment, cell: str) -> tuple[int, float]:
    """How many died of it, and the seconds until it was given up."""
    deaths, started_at, last = 0, time.monotonic(), 0
    while time.monotonic() < started_at + _TIMEOUT_S:
        environment.stack.restart_exited()
        with environment.sessions() as session:
            status, owner, attempt = session.execute(
                select(Cell.status, Cell.lease_owner, Cell.attempt).where(Cell.id == cell)
            ).one()
        if status == Status.RUNNING and attempt > last:
            with suppress(ProcessLookupError):
                os.kill(int(owner.split("/")[1]), signal.SIGKILL)
            deaths, last = deaths + 1, attempt
        elif status not in (Status.QUEUED, Status.RUNNING):
            return deaths, time.monotonic() - started_at
        time.sleep(0.02)
    raise TimeoutError("the poison cell was never given up")
