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
from benchmarks.chaos.fixtures import LEASE_S, SWEEP_S, ChaosEnvironment, chaos_environment
from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Event

_MAX_REQUEUE_S = LEASE_S + SWEEP_S + 2
_HOST = socket.gethostname()


@dataclass(frozen=True)
class LostAttempt:
    """An attempt whose worker was killed, at a time of the database's clock."""

    cell: str
    attempt: int
    at: datetime


def run(
    log_progress: ProgressCallback,
    *,
    cells: int = 100,
    workers: int = 4,
    seconds: float = 60.0,
    every_s: float = 2.0,
    seed: int = 0,
) -> list[FaultResult]:
    with chaos_environment(attack_workers=workers) as environment:
        # So many images keep a cell at work for seconds: it must be there to be killed, and the queue outlast the
        # storm.
        ids = environment.create_evaluations(cells, dataset=images.LARGE_DATASET, profile="quick")
        kills, losses = _kill_workers(environment, random.Random(seed), seconds, every_s)
        seconds_to_end = environment.wait_until_ended(*ids)
        log_progress(f"{kills} killed, {len(losses)} of them at work; all ended {seconds_to_end:.0f} s after the last")
        queued, claimed = _reclaim_seconds(environment, losses)
        damaged = environment.count_damaged_cells(ids)
    late_count = sum(seconds > _MAX_REQUEUE_S for seconds in queued)
    reclaim_note = f"claimed again after at most {max(claimed):.1f} s; " if claimed else ""
    note = f"at least {cells} cells; {len(losses)} attempts lost, "
    note += f"{late_count} queued again after more than {_MAX_REQUEUE_S:.0f} s; {reclaim_note}"
    return [FaultResult("kill storm", kills, kills - late_count, damaged, queued, note.strip("; "))]


def _kill_workers(
    environment: ChaosEnvironment, rng: random.Random, seconds: float, every_s: float
) -> tuple[int, list[LostAttempt]]:
    kills, losses = 0, []
    deadline = time.monotonic() + seconds
    while (now := time.monotonic()) < deadline:
        while time.monotonic() < now + every_s:
            environment.stack.restart_exited()
            time.sleep(0.1)
        main_processes = [
            process
            for process in environment.processes("unveil.worker.main", "attack")
            if process.pid == os.getpgid(process.pid)
        ]
        if main_processes:
            losses += _kill(environment, rng.choice(main_processes), rng.random() < 0.5)
            kills += 1
    return kills, losses


def _kill(environment: ChaosEnvironment, main: psutil.Process, whole_worker: bool) -> list[LostAttempt]:
    """Kill a worker, or its pool alone; what it had at work."""
    pool = main.children()
    with environment.sessions() as session:
        now = session.scalar(select(func.clock_timestamp()))
        leased = session.execute(
            select(Cell.id, Cell.attempt).where(
                func.concat(
                    func.split_part(Cell.lease_owner, "/", 1), "/", func.split_part(Cell.lease_owner, "/", 2)
                ).in_([f"{_HOST}/{process.pid}" for process in pool])
            )
        ).all()
    for process in [main, *pool] if whole_worker else pool:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return [LostAttempt(id, attempt, now) for id, attempt in leased]


def _reclaim_seconds(environment: ChaosEnvironment, losses: Sequence[LostAttempt]) -> tuple[list[float], list[float]]:
    """Seconds from each loss until its cell was queued again, and until it was claimed again."""
    queued, claimed = [], []
    for loss in losses:
        with environment.sessions() as session:
            events = session.execute(
                select(Event.created_at, Event.data["status"].astext, Event.data["attempt"].as_integer())
                .where(Event.type == "cell", Event.data["cell"].astext == loss.cell, Event.created_at > loss.at)
                .order_by(Event.seq)
            ).all()
        later_events = [(status, attempt, (at - loss.at).total_seconds()) for at, status, attempt in events]
        queued += [s for status, attempt, s in later_events if (status, attempt) == (Status.QUEUED, loss.attempt)][:1]
        claimed += [
            s for status, attempt, s in later_events if (status, attempt) == (Status.RUNNING, loss.attempt + 1)
        ][:1]
    return queued, claimed
