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
from benchmarks.chaos.fixtures import Scene, scene
from benchmarks.chaos.outcome import Outcome, Tell
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell

_CAP = 5  # the product's own
_LONG = {"dataset": images.MANY, "keys": 64}
_PATIENCE_S = 240.0


def run(tell: Tell, *, times: int = 3, neighbours: int = 20) -> list[Outcome]:
    survived, lost, seconds = 0, 0, []
    with scene(attack_workers=2, UNVEIL_MAX_STALLS=str(_CAP)) as there:
        for number in range(times):
            # One of two cells of its evaluation is poison; the evaluations around it are ordered before and after.
            ids = [there.order(seed=number) for _ in range(neighbours // 4)]
            poisoned = there.order([{"name": "fr"}, {"name": "none"}], seed=number, **_LONG)
            ids += [there.order(seed=number) for _ in range(neighbours // 4)]
            deaths, took = _kill_whoever_takes(there, there.cells([poisoned])[0]["id"])
            there.until_ended(poisoned, *ids)
            bad, good = there.cells([poisoned])
            harmed = there.harmed(ids) + (good["status"] != Status.SUCCEEDED)
            well = (bad["status"], (bad["error"] or {}).get("code"), deaths) == (Status.FAILED, "poison", _CAP)
            tell(f"{bad['status']} as {bad['error']} after {deaths} deaths, {took:.1f} s; {harmed} neighbours harmed")
            survived += well and not harmed
            lost += harmed
            seconds.append(took)
    note = f"{_CAP} deaths each until it failed; {neighbours} neighbours and the other cell of its evaluation"
    return [Outcome("poison cell", times, survived, lost, seconds, note)]


def _kill_whoever_takes(there: Scene, cell: str) -> tuple[int, float]:
    """How many died of it, and the seconds until it was given up."""
    deaths, began, last = 0, time.monotonic(), 0
    while time.monotonic() < began + _PATIENCE_S:
        there.stack.restart_dead()
        with there.sessions() as session:
            status, owner, attempt = session.execute(
                select(Cell.status, Cell.lease_owner, Cell.attempt).where(Cell.id == cell)
            ).one()
        if status == Status.RUNNING and attempt > last:
            with suppress(ProcessLookupError):
                os.kill(int(owner.split("/")[1]), signal.SIGKILL)
            deaths, last = deaths + 1, attempt
        elif status not in (Status.QUEUED, Status.RUNNING):
            return deaths, time.monotonic() - began
        time.sleep(0.02)
    raise TimeoutError("the poison cell was never given up")
