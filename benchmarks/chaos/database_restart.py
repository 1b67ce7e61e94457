"""PostgreSQL restarted in immediate mode in the middle of a cell: the job survives, and nothing is there twice."""

from __future__ import annotations

import signal
import time

from sqlalchemy import func, select

from benchmarks.chaos.fixtures import LONG, Scene, scene
from benchmarks.chaos.outcome import Outcome, Tell
from unveil.app.db.tables import Cell, Curve, Event, Sample


def run(tell: Tell, *, rounds: int = 3) -> list[Outcome]:
    tries, survived, lost, seconds, attempts = 0, 0, 0, [], 0
    with scene(durable=True) as there:
        for number in range(rounds):
            for attack, more in LONG:
                tries += 1
                calm = there.figures(_ended(there, there.order([attack], seed=number, **more)))
                id = there.order([attack], seed=number, **more)
                seconds.append(_restart_in_the_middle(there, id))
                _ended(there, id)
                same, twice, attempt = there.figures(id) == calm, _twice(there, id), _attempts(there, id)
                lost += twice + there.harmed([id])
                survived += same and not twice
                attempts += attempt - 1
                tell(
                    f"{attack['name']}: answers again after {seconds[-1]:.1f} s, {attempt} attempts, "
                    f"{'the same figures' if same else 'OTHER FIGURES'}, {twice} rows twice"
                )
    note = f"figures compared to the bit with an undisturbed run; attempts begun anew: {attempts}"
    return [Outcome("PostgreSQL restarted, immediate mode", tries, survived, lost, seconds, note)]


def _ended(there: Scene, id: str) -> str:
    there.until_ended(id)
    return id


def _restart_in_the_middle(there: Scene, id: str) -> float:
    """Seconds until the service answers from the rows again."""
    there.until_at_work(id)
    began = time.monotonic()
    there.kill("postgres", signal.SIGQUIT)  # "immediate": no checkpoint, no farewell to anybody; recovery at the start
    there.wait(lambda: bool(there.show(id)), "the service")
    return time.monotonic() - began


def _attempts(there: Scene, id: str) -> int:
    with there.sessions() as session:
        return session.scalar(select(func.max(Cell.attempt)).where(Cell.evaluation_id == id)) or 0


def _twice(there: Scene, id: str) -> int:
    """Rows of a result, or numbers of events, that are there more than once."""
    cells = select(Cell.id).where(Cell.evaluation_id == id)
    counted = (
        select(Event.seq).where(Event.evaluation_id == id).group_by(Event.seq),
        select(Sample.index).where(Sample.cell_id.in_(cells)).group_by(Sample.cell_id, Sample.index),
        select(Curve.name).where(Curve.cell_id.in_(cells)).group_by(Curve.cell_id, Curve.name),
    )
    with there.sessions() as session:
        return sum(len(session.execute(rows.having(func.count() > 1)).all()) for rows in counted)
