"""The one way an evaluation changes: under its row lock, with an event for everything that happened.

The lock comes before any lock on a cell, so writers never wait for each other in a circle; and versions and event
ids rise in the order of the commits, so a reader who has seen number n has seen all before it.
"""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from app.core.states import ENDED, Status, of_evaluation
from app.db.tables import Cell, Evaluation, Event

EventType = Literal["progress", "cell", "metric", "status"]


def lock(session: Session, evaluation_id: str, *, skip_locked: bool = False) -> Evaluation | None:
    """The evaluation, ours until the end of the transaction; None when it is gone (or, skipping, somebody else's)."""
    return session.scalar(
        select(Evaluation)
        .where(Evaluation.id == evaluation_id)
        .with_for_update(skip_locked=skip_locked)
        .execution_options(populate_existing=True)
    )


def record(session: Session, evaluation: Evaluation, type: EventType, data: dict[str, Any]) -> None:
    """Write an event of a locked evaluation."""
    evaluation.version += 1
    session.add(Event(evaluation_id=evaluation.id, seq=evaluation.version, type=type, data=data))
    session.flush()


def cell_changed(session: Session, evaluation: Evaluation, cell_id: str) -> None:
    """Tell of a cell's new status, start or end the evaluation accordingly: call it in the changing transaction."""
    cell = session.get_one(Cell, cell_id, populate_existing=True)
    record(
        session,
        evaluation,
        "cell",
        {
            "cell": cell.id,
            "position": cell.position,
            "scheme": cell.scheme,
            "attack": cell.attack,
            "status": cell.status,
            "attempt": cell.attempt,
            "error": cell.error,
            "result": _headline(cell.result),
            **overview(session, evaluation.id),
        },
    )
    if evaluation.status == Status.QUEUED and cell.status == Status.RUNNING:
        evaluation.started_at = func.clock_timestamp()
        _move(session, evaluation, Status.RUNNING)
    settle(session, evaluation)


def settle(session: Session, evaluation: Evaluation) -> None:
    """End a locked evaluation whose cells all have."""
    if evaluation.status in ENDED:
        return
    cells = session.scalars(select(Cell.status).where(Cell.evaluation_id == evaluation.id))
    ending = of_evaluation([Status(status) for status in cells])
    if ending is not None:
        evaluation.finished_at = func.clock_timestamp()
        _move(session, evaluation, ending)


def cancel(session: Session, evaluation: Evaluation) -> None:
    """Cancel a locked evaluation: what waits ends now, what runs is asked to."""
    cells = session.scalars(
        select(Cell)
        .where(Cell.evaluation_id == evaluation.id, Cell.status.in_([Status.QUEUED, Status.RUNNING]))
        .order_by(Cell.position)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    if evaluation.status == Status.RUNNING:
        _move(session, evaluation, Status.CANCELLING)
    for cell in cells:
        if cell.status == Status.QUEUED:
            cell.status, cell.finished_at = Status.CANCELLED, func.clock_timestamp()
        else:
            cell.status = Status.CANCELLING
        session.flush()
        cell_changed(session, evaluation, cell.id)


def overview(session: Session, evaluation_id: str) -> dict[str, Any]:
    """How far the whole evaluation is: cells ended, cells, and the mean of their progress."""
    ended = Cell.status.in_(ENDED)
    done, total, fraction = session.execute(
        select(func.count().filter(ended), func.count(), func.avg(case((ended, 1.0), else_=Cell.progress))).where(
            Cell.evaluation_id == evaluation_id
        )
    ).one()
    return {"done": done, "total": total, "fraction": round(float(fraction or 0), 4)}


def _move(session: Session, evaluation: Evaluation, status: Status) -> None:
    evaluation.status = status
    record(session, evaluation, "status", {"status": status.value, **overview(session, evaluation.id)})


def _headline(result: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a heat table shows of a finished cell."""
    return None if result is None else {name: result.get(name) for name in ("ssim", "identification", "verdict")}
