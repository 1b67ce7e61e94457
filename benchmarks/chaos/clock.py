"""A worker whose clock is ten minutes off: no lease ends early or late, no figure changes, no time in a row is its own.

Needs libfaketime (Debian: `apt-get install faketime`), which shifts what the worker's processes take for the time.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import func, or_, select

from benchmarks.chaos import images
from benchmarks.chaos.fixtures import LEASE_S, LONG_ORDERS, ChaosEnvironment, chaos_environment
from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from unveil.app.db.tables import Cell, Evaluation, Event, ProcessHeartbeat

_LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
_WORKERS = ("worker-attack", "worker-encrypt")


def run(log_progress: ProgressCallback) -> list[FaultResult]:
    if _LIBRARY is None:
        raise FileNotFoundError("libfaketime is not installed (Debian: apt-get install faketime)")
    survived, lost, notes = 0, 0, []
    offsets = ("+10m", "-10m")
    with chaos_environment() as environment:
        attack, extra_order = LONG_ORDERS[0]
        baseline = environment.measured_results(
            _wait_until_ended(environment, environment.create_evaluation([attack], **extra_order))
        )
        for offset in offsets:
            for part in _WORKERS:
                environment.stack.stop_service(part)
                environment.stack.start_service(part, **_shifted_clock(offset))
            environment.wait_until(environment.stack.is_ready, "workers with another clock")
            id = _wait_until_ended(environment, environment.create_evaluation([attack], **extra_order))
            form = {"data": {"scheme": "tanaka"}, "files": {"images": ("a.png", images.png(0), "image/png")}}
            encrypted = environment.http.post("/encrypt", **form)
            with environment.sessions() as session:
                cells = session.scalars(select(Cell).where(Cell.evaluation_id == id))
                # The profile adds attacks of its own.
                (cell,) = (cell for cell in cells if cell.attack["name"] == attack["name"])
                seconds = (cell.finished_at - cell.started_at).total_seconds()
            same, wrong_times = environment.measured_results(id) == baseline, _count_wrong_times(environment)
            log_progress(
                f"{offset}: attempt {cell.attempt}, {seconds:.0f} s of work under a lease of {LEASE_S:.0f} s, "
                f"{'the same figures' if same else 'OTHER FIGURES'}, {wrong_times} wrong times, "
                f"/encrypt answered {encrypted.status_code}"
            )
            survived += same and cell.attempt == 1 and seconds > LEASE_S and encrypted.is_success and not wrong_times
            lost += environment.count_damaged_cells([id])
            notes.append(f"{offset}: {seconds:.0f} s of work in one attempt")
    return [FaultResult("workers' clock off", len(offsets), survived, lost, note="; ".join(notes))]


def _shifted_clock(offset: str) -> dict[str, str]:
    """A wall clock that is off; the one that only counts seconds goes on, as with a clock that was set wrong."""
    return {"LD_PRELOAD": str(_LIBRARY), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def _wait_until_ended(environment: ChaosEnvironment, id: str) -> str:
    environment.wait_until_ended(id)
    return id


def _count_wrong_times(environment: ChaosEnvironment) -> int:
    """Rows with a time that the database's clock has not shown since they were ordered."""
    now = func.clock_timestamp()
    ordered = Evaluation.created_at
    with environment.sessions() as session:
        wrong = [
            select(Evaluation.id).where(or_(Evaluation.started_at > now, Evaluation.finished_at > now)),
            select(Evaluation.id).where(or_(Evaluation.started_at < ordered, Evaluation.finished_at < ordered)),
            select(Cell.id).where(or_(Cell.started_at > now, Cell.finished_at > now)),
            select(Cell.id).join(Evaluation).where(or_(Cell.started_at < ordered, Cell.finished_at < ordered)),
            select(Event.seq).join(Evaluation).where(or_(Event.created_at > now, Event.created_at < ordered)),
            select(ProcessHeartbeat.name).where(ProcessHeartbeat.seen_at > now),
        ]
        return sum(len(session.scalars(rows).all()) for rows in wrong)
