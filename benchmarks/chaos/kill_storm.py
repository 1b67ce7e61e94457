"""A random worker killed every two seconds, whole or its pool process alone, while small cells run."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import psutil
from sqlalchemy import func, select

from benchmarks.chaos import images
from benchmarks.chaos.fixtures import LEASE_S, SWEEP_S, Scene, scene
from benchmarks.chaos.outcome import Outcome, Tell
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Event

_BOUND_S = LEASE_S + SWEEP_S + 2
_HOST = socket.gethostname()


@dataclass(frozen=True)
class Loss:
    """An attempt whose worker was killed, at a time of the database's clock."""

    cell: str
    attempt: int
    at: datetime


def run(
    tell: Tell, *, cells: int = 100, workers: int = 4, seconds: float = 60.0, every_s: float = 2.0, seed: int = 0
) -> list[Outcome]:
    with scene(attack_workers=workers) as there:
        # So many keys keep a cell at work for seconds: it must be there to be killed, and the queue outlast the storm.
        ids = [there.order(seed=number, dataset=images.MANY, profile="quick", keys=12) for number in range(cells // 2)]
        kills, losses = _storm(there, random.Random(seed), seconds, every_s)
        took = there.wait(lambda: there.ended(ids), "the end of all cells")
        tell(f"{kills} killed, {len(losses)} of them at work; all ended {took:.0f} s after the last")
        queued, claimed = _reclaims(there, losses)
        harmed = there.harmed(ids)
    late = sum(seconds > _BOUND_S for seconds in queued)
    again = f"claimed again after at most {max(claimed):.1f} s; " if claimed else ""
    note = f"{cells} cells; {len(losses)} attempts lost, {late} queued again after more than {_BOUND_S:.0f} s; {again}"
    return [Outcome("kill storm", kills, kills - late, harmed, queued, note.strip("; "))]


def _storm(there: Scene, dice: random.Random, seconds: float, every_s: float) -> tuple[int, list[Loss]]:
    kills, losses = 0, []
    until = time.monotonic() + seconds
    while (now := time.monotonic()) < until:
        while time.monotonic() < now + every_s:
            there.stack.restart_dead()
            time.sleep(0.1)
        mains = [
            process
            for process in there.processes("unveil.worker.main", "attack")
            if process.pid == os.getpgid(process.pid)
        ]
        if mains:
            losses += _kill(there, dice.choice(mains), dice.random() < 0.5)
            kills += 1
    return kills, losses


def _kill(there: Scene, main: psutil.Process, whole: bool) -> list[Loss]:
    """Kill a worker, or its pool alone; what it had at work."""
    pool = main.children()
    with there.sessions() as session:
        now = session.scalar(select(func.clock_timestamp()))
        held = session.execute(
            select(Cell.id, Cell.attempt).where(
                func.concat(
                    func.split_part(Cell.lease_owner, "/", 1), "/", func.split_part(Cell.lease_owner, "/", 2)
                ).in_([f"{_HOST}/{process.pid}" for process in pool])
            )
        ).all()
    for process in [main, *pool] if whole else pool:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return [Loss(id, attempt, now) for id, attempt in held]


def _reclaims(there: Scene, losses: Sequence[Loss]) -> tuple[list[float], list[float]]:
    """Seconds from each loss until its cell was queued again, and until it was claimed again."""
    queued, claimed = [], []
    for loss in losses:
        with there.sessions() as session:
            told = session.execute(
                select(Event.created_at, Event.data["status"].astext, Event.data["attempt"].as_integer())
                .where(Event.type == "cell", Event.data["cell"].astext == loss.cell, Event.created_at > loss.at)
                .order_by(Event.seq)
            ).all()
        after = [(status, attempt, (at - loss.at).total_seconds()) for at, status, attempt in told]
        queued += [s for status, attempt, s in after if (status, attempt) == (Status.QUEUED, loss.attempt)][:1]
        claimed += [s for status, attempt, s in after if (status, attempt) == (Status.RUNNING, loss.attempt + 1)][:1]
    return queued, claimed
