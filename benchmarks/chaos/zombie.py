"""A worker stopped past its lease wakes up when another has done its work: not one row may change by it."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import func, select

from benchmarks.chaos.fixtures import LEASE_S, LONG, Scene, scene
from benchmarks.chaos.outcome import Outcome, Tell
from unveil.app.db.tables import Base, Cell

_AWAKE_S = 4.0  # a watch looks each second: by then the zombie has tried to write, and was told
_PASSING = {"workers", "idempotency"}  # heartbeats of processes; what requests leave


def run(tell: Tell, *, rounds: int = 3, seed: int = 0) -> list[Outcome]:
    dice = random.Random(seed)
    tries, survived, changed, seconds = 0, 0, 0, []
    with scene(attack_workers=2) as there:
        for number in range(rounds):
            for attack, more in LONG:
                tries += 1
                id = there.order([attack], seed=number, **more)
                there.until_at_work(id)
                time.sleep(dice.random())
                with _asleep(there, id):
                    seconds.append(there.until_ended(id))
                    before = _rows(there)
                time.sleep(_AWAKE_S)
                touched = _rows(there) ^ before
                changed += len(touched)
                well = not touched and there.harmed([id]) == 0 and _attempts(there, id) > 1
                survived += well
                tell(f"{attack['name']}: ended by another in {seconds[-1]:.1f} s; {len(touched)} rows changed")
    note = f"stopped past its lease of {LEASE_S:.0f} s, woken after another had ended the cell; all tables compared"
    return [Outcome("zombie", tries, survived, changed, seconds, note)]


@contextmanager
def _asleep(there: Scene, id: str) -> Iterator[None]:
    """The whole worker that has the cell, stopped by SIGSTOP until the end of the block."""
    with there.sessions() as session:
        held = select(Cell.lease_owner).where(Cell.evaluation_id == id, Cell.lease_owner.is_not(None))
        owner = session.scalar(held)
    if owner is None:
        raise TimeoutError("the cell ended before its worker could be stopped")
    group = os.getpgid(int(owner.split("/")[1]))
    os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(group, signal.SIGCONT)


def _attempts(there: Scene, id: str) -> int:
    with there.sessions() as session:
        return session.scalar(select(func.max(Cell.attempt)).where(Cell.evaluation_id == id)) or 0


def _rows(there: Scene) -> set[str]:
    """Every row of every table, as text."""
    tables = [table for table in Base.metadata.sorted_tables if table.name not in _PASSING]
    with there.sessions() as session:
        return {f"{table.name} {row!r}" for table in tables for row in session.execute(select(table))}
