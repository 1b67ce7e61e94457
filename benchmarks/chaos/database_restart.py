"""PostgreSQL restarted in immediate mode in the middle of a cell: the job survives, and nothing is there twice."""

from __future__ import annotations

import signal
import time

from sqlalchemy import func, select

from benchmarks.chaos.fixtures import LONG_ORDERS, ChaosEnvironment, chaos_environment
from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from unveil.app.db.tables import Cell, Curve, Event, Sample


def run(log_progress: ProgressCallback, *, rounds: int = 3) -> list[FaultResult]:
    tries, survived, lost, seconds, attempts = 0, 0, 0, [], 0
    with chaos_environment(durable=True) as environment:
        for number in range(rounds):
            for attack, extra_order in LONG_ORDERS:
                tries += 1
                baseline = environment.measured_results(
                    _wait_until_ended(environment, environment.create_evaluation([attack], seed=number, **extra_order))
                )
                id = environment.create_evaluation([attack], seed=number, **extra_order)
                seconds.append(_restart_while_running(environment, id))
                _wait_until_ended(environment, id)
                same, duplicates, attempt = (
                    environment.measured_results(id) == baseline,
                    _count_duplicates(environment, id),
                    _max_attempt(environment, id),
                )
                lost += duplicates + environment.count_damaged_cells([id])
                survived += same and not duplicates
                attempts += attempt - 1
                log_progress(
                    f"{attack['name']}: answers again after {seconds[-1]:.1f} s, {attempt} attempts, "
                    f"{'the same figures' if same else 'OTHER FIGURES'}, {duplicates} rows twice"
                )
    note = f"figures compared to the bit with an undisturbed run; attempts begun anew: {attempts}"
    return [FaultResult("PostgreSQL restarted, immediate mode", tries, survived, lost, seconds, note)]


def _wait_until_ended(environment: ChaosEnvironment, id: str) -> str:
    environment.wait_until_ended(id)
    return id


def _restart_while_running(environment: ChaosEnvironment, id: str) -> float:
    """Seconds until the service answers from the rows again."""
    environment.wait_until_running(id)
    started_at = time.monotonic()
    environment.kill(
        "postgres", signal.SIGQUIT
    )  # "immediate": no checkpoint, no farewell to anybody; recovery at the start
    environment.wait_until(lambda: bool(environment.get_evaluation(id)), "the service")
    return time.monotonic() - started_at


def _max_attempt(environment: ChaosEnvironment, id: str) -> int:
    with environment.sessions() as session:
        return session.scalar(select(func.max(Cell.attempt)).where(Cell.evaluation_id == id)) or 0


def _count_duplicates(environment: ChaosEnvironment, id: str) -> int:
    """Rows of a result, or numbers of events, that are there more than once."""
    cells = select(Cell.id).where(Cell.evaluation_id == id)
    counted = (
        select(Event.seq).where(Event.evaluation_id == id).group_by(Event.seq),
        select(Sample.index).where(Sample.cell_id.in_(cells)).group_by(Sample.cell_id, Sample.index),
        select(Curve.name).where(Curve.cell_id.in_(cells)).group_by(Curve.cell_id, Curve.name),
    )
    with environment.sessions() as session:
        return sum(len(session.execute(rows.having(func.count() > 1)).all()) for rows in counted)
