"""The one way an evaluation changes: under its row lock, with an event for everything that happened.

The lock comes before any lock on a cell, or on a key that is trained for the evaluation, so writers never wait for each
other in a circle; and versions and event ids rise in the order of the commits, so a reader who has seen number n has
seen all before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeVar

from sqlalchemy import ColumnElement, Select, Update, case, func, select, update
from sqlalchemy.orm import Session

from unveil.app.db.job_states import ACTIVE, DONE, ENDED, Status, of_evaluation
from unveil.app.db.tables import Cell, Evaluation, Event, Key
from unveil.app.jobs import eta
from unveil.models import catalog

EventType = Literal["progress", "cell", "metric", "status"]
_Job = TypeVar("_Job", Cell, Key)


def lock(session: Session, evaluation_id: str, *, skip_locked: bool = False) -> Evaluation | None:
    """The evaluation, ours until the end of the transaction; None when it is gone (or, skipping, somebody else's)."""
    return session.scalar(
        select(Evaluation)
        .where(Evaluation.id == evaluation_id)
        .with_for_update(skip_locked=skip_locked)
        .execution_options(populate_existing=True)
    )


def record(session: Session, evaluation: Evaluation, type: EventType, *told: dict[str, Any]) -> None:
    """Write events of a locked evaluation."""
    for data in told:
        evaluation.version += 1
        session.add(Event(evaluation_id=evaluation.id, seq=evaluation.version, type=type, data=data))
    session.flush()


def cell_changed(session: Session, evaluation: Evaluation, cell_id: str) -> None:
    """Tell of a cell's new status, start or end the evaluation accordingly: call it in the changing transaction."""
    cell = session.get_one(Cell, cell_id, populate_existing=True)
    _tell(session, evaluation, [cell])
    _begin(session, evaluation, cell)
    settle(session, evaluation)


def _tell(session: Session, evaluation: Evaluation, cells: Iterable[Cell]) -> None:
    """Of the new statuses of cells; all at once, since each event says how far the whole is."""
    whole = overview(session, evaluation.id)
    events = [
        {
            "cell": cell.id,
            "position": cell.position,
            "scheme": cell.scheme,
            "attack": cell.attack,
            "status": cell.status,
            "attempt": cell.attempt,
            "error": cell.error,
            "result": _headline(cell.result),
            **whole,
        }
        for cell in sorted(cells, key=lambda cell: cell.position)
    ]
    record(session, evaluation, "cell", *events)


def key_changed(session: Session, evaluation: Evaluation, key_id: str) -> None:
    """Tell of the new status of a key that is trained for the evaluation; what waits for one in vain, fails."""
    key = session.get_one(Key, key_id, populate_existing=True)
    progressed(session, evaluation, key)
    _begin(session, evaluation, key)
    if key.status in (Status.FAILED, Status.CANCELLED):
        reason = key.error["detail"] if key.error else "its training was cancelled"
        values = {
            "status": Status.FAILED,
            "finished_at": func.clock_timestamp(),
            "error": {"code": "key_unusable", "detail": f"the key {key.id} could not be trained: {reason}"},
        }
        waiting = update(Cell).where(uses(key_id), Cell.status == Status.QUEUED).values(values)
        _tell(session, evaluation, _changed(session, evaluation, Cell, waiting))
    settle(session, evaluation)


def progressed(session: Session, evaluation: Evaluation, *jobs: Cell | Key) -> None:
    """Tell how far cells, or keys that are trained for the evaluation, have come."""
    whole = overview(session, evaluation.id)
    events = []
    for job in jobs:
        told = {"progress": job.progress, "phase": job.phase, "evaluation": whole}
        if isinstance(job, Key):
            told |= {"scheme": job.scheme, "status": job.status, "error": job.error}
        events.append(named(job) | told)
    record(session, evaluation, "progress", *events)


def named(job: Cell | Key) -> dict[str, Any]:
    """How an event names what it is about."""
    return {"cell": job.id} if isinstance(job, Cell) else {"cell": None, "key": job.id}


def uses(key_id: str) -> ColumnElement[bool]:
    """The cells that are run with a key, as a WHERE."""
    named: ColumnElement[str] = Cell.scheme["key_id"].astext
    return named == key_id


def settle(session: Session, evaluation: Evaluation) -> None:
    """End a locked evaluation whose cells all have, and which trains no key any more."""
    if evaluation.status in ENDED:
        return
    training = select(Key.id).where(Key.evaluation_id == evaluation.id, Key.status.in_(ACTIVE))
    if session.scalar(training.limit(1)) is not None:
        return
    cells = session.scalars(select(Cell.status).where(Cell.evaluation_id == evaluation.id))
    ending = of_evaluation([Status(status) for status in cells])
    if ending is not None:
        evaluation.finished_at = func.clock_timestamp()
        _move(session, evaluation, ending)


def cancel(session: Session, evaluation: Evaluation) -> None:
    """Cancel a locked evaluation: what waits ends now, what runs is asked to."""
    if evaluation.status == Status.RUNNING:
        _move(session, evaluation, Status.CANCELLING)
    _tell(session, evaluation, _changed(session, evaluation, Cell, _cancelled(Cell)))
    keys = _changed(session, evaluation, Key, _cancelled(Key))
    progressed(session, evaluation, *sorted(keys, key=lambda key: key.id))
    settle(session, evaluation)


def _cancelled(table: type[_Job]) -> Update:
    waits = table.status == Status.QUEUED
    return (
        update(table)
        .where(table.status.in_([Status.QUEUED, Status.RUNNING]))
        .values(
            status=case((waits, Status.CANCELLED), else_=Status.CANCELLING),
            finished_at=case((waits, func.clock_timestamp())),
        )
    )


def _changed(session: Session, evaluation: Evaluation, table: type[_Job], change: Update) -> Sequence[_Job]:
    """The evaluation's rows that are changed, as they are then."""
    rows = change.where(table.evaluation_id == evaluation.id).returning(table)
    return session.scalars(rows, execution_options={"populate_existing": True, "synchronize_session": False}).all()


def overview(session: Session, evaluation_id: str) -> dict[str, Any]:
    """How far the whole evaluation is: cells done, cells, and how far they and keys in training have come."""
    cells = session.execute(_pace(Cell, Cell.attack).where(Cell.evaluation_id == evaluation_id)).all()
    keys = session.execute(_pace(Key, Key.scheme).where(Key.evaluation_id == evaluation_id)).all()
    done = sum(cell.status in DONE for cell in cells)
    return {"done": done, "total": len(cells), "fraction": round(eta.fraction(works(cells, keys)), 4)}


def _pace(table: type[Cell] | type[Key], kind: Any) -> Select[Any]:
    return select(kind, table.status, table.progress, table.started_at, table.finished_at)


def works(cells: Sequence[Any], keys: Sequence[Any]) -> list[eta.Work]:
    """Cells, and the keys trained for them, as far as their time is concerned."""
    named = [(cell.attack["name"], catalog.takes_long(cell.attack["name"]), cell) for cell in cells]
    named += [(f"key of {key.scheme}", True, key) for key in keys]
    return [
        eta.Work(kind, long, Status(job.status), job.progress, job.started_at, job.finished_at)
        for kind, long, job in named
    ]


def _begin(session: Session, evaluation: Evaluation, job: Cell | Key) -> None:
    if evaluation.status == Status.QUEUED and job.status == Status.RUNNING:
        evaluation.started_at = func.clock_timestamp()
        _move(session, evaluation, Status.RUNNING)


def _move(session: Session, evaluation: Evaluation, status: Status) -> None:
    evaluation.status = status
    record(session, evaluation, "status", {"status": status.value, **overview(session, evaluation.id)})


def _headline(result: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a heat table shows of a finished cell."""
    return None if result is None else {name: result.get(name) for name in ("ssim", "identification", "verdict")}
