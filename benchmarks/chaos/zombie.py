"""A worker stopped past its lease wakes up when another has done its work: not one row may change by it."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import func, select

from benchmarks.chaos.fixtures import LEASE_S, LONG_ORDERS, ChaosEnvironment, chaos_environment
from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from unveil.app.db.tables import Base, Cell

_RESUME_WAIT_S = 4.0  # the lease watch checks each second, so the resumed worker has tried to write by then
# Heartbeats of processes; what requests leave; the account pays for what the resumed worker computed in vain.
_IGNORED_TABLES = {"process_heartbeats", "idempotency", "account_usage"}


def run(log_progress: ProgressCallback, *, rounds: int = 3, seed: int = 0) -> list[FaultResult]:
    rng = random.Random(seed)
    tries, survived, changed, seconds = 0, 0, 0, []
    with chaos_environment(attack_workers=2) as environment:
        for number in range(rounds):
            for attack, extra_order in LONG_ORDERS:
                tries += 1
                id = environment.create_evaluation([attack], seed=number, **extra_order)
                environment.wait_until_running(id)
                time.sleep(rng.random())
                with _suspended_worker(environment, id):
                    seconds.append(environment.wait_until_ended(id))
                    rows_before = _read_all_rows(environment)
                time.sleep(_RESUME_WAIT_S)
                changed_rows = _read_all_rows(environment) ^ rows_before
                changed += len(changed_rows)
                is_unchanged = (
                    not changed_rows
                    and environment.count_damaged_cells([id]) == 0
                    and _max_attempt(environment, id) > 1
                )
                survived += is_unchanged
                log_progress(
                    f"{attack['name']}: ended by another in {seconds[-1]:.1f} s; {len(changed_rows)} rows changed"
                )
    note = f"stopped past its lease of {LEASE_S:.0f} s, woken after another had ended the cell; all tables compared"
    return [FaultResult("zombie", tries, survived, changed, seconds, note)]


@contextmanager
def _suspended_worker(environment: ChaosEnvironment, id: str) -> Iterator[None]:
    """The whole worker that has the cell, stopped by SIGSTOP until the end of the block."""
    with environment.sessions() as session:
        query = select(Cell.lease_owner).where(Cell.evaluation_id == id, Cell.lease_owner.is_not(None))
        owner = session.scalar(query)
    if owner is None:
        raise TimeoutError("the cell ended before its worker could be stopped")
    group = os.getpgid(int(owner.split("/")[1]))
    os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(group, signal.SIGCONT)


def _max_attempt(environment: ChaosEnvironment, id: str) -> int:
    with environment.sessions() as session:
        return session.scalar(select(func.max(Cell.attempt)).where(Cell.evaluation_id == id)) or 0


def _read_all_rows(environment: ChaosEnvironment) -> set[str]:
    """Every row of every table, as text."""
    tables = [table for table in Base.metadata.sorted_tables if table.name not in _IGNORED_TABLES]
    with environment.sessions() as session:
        return {f"{table.name} {row!r}" for table in tables for row in session.execute(select(table))}
