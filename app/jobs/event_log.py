"""Event log of an evaluation: every change happens under the lock of its row and appends an event.

Writers lock the evaluation before its cells and keys, so they cannot deadlock. Event ids increase in the order of the
commits, so a reader who has seen event n has seen all earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeVar

from sqlalchemy import ColumnElement, Select, Update, any_, func, literal, select, update
from sqlalchemy.orm import Session

from unveil.app.db.ids import new_id
from unveil.app.db.job_states import ACTIVE, COMPLETED, TERMINAL, Status, aggregate_status
from unveil.app.db.tables import Cell, Evaluation, Event, Key, Webhook, WebhookDelivery
from unveil.app.jobs import eta
from unveil.models import catalog
from unveil.models.core.cell_result import stored_headline

EventType = Literal["progress", "cell", "metric", "status"]
_Job = TypeVar("_Job", Cell, Key)


def lock_evaluation(session: Session, evaluation_id: str, *, skip_locked: bool = False) -> Evaluation | None:
    """Lock the evaluation until the transaction ends. None if it was deleted, or with skip_locked is locked already."""
    return session.scalar(
        select(Evaluation)
        .where(Evaluation.id == evaluation_id)
        .with_for_update(skip_locked=skip_locked)
        .execution_options(populate_existing=True)
    )


def append_events(session: Session, evaluation: Evaluation, type: EventType, *payloads: dict[str, Any]) -> None:
    """For a locked evaluation."""
    for data in payloads:
        evaluation.event_seq += 1
        session.add(Event(evaluation_id=evaluation.id, seq=evaluation.event_seq, type=type, data=data))
    session.flush()


def on_cell_status_changed(session: Session, evaluation: Evaluation, cell_id: str) -> None:
    """Append an event and start or finish the evaluation; call in the transaction that changes the cell."""
    cell = session.get_one(Cell, cell_id, populate_existing=True)
    append_cell_events(session, evaluation, [cell])
    _start_if_running(session, evaluation, cell)
    finish_if_complete(session, evaluation)


def append_cell_events(session: Session, evaluation: Evaluation, cells: Iterable[Cell]) -> None:
    """For all changed cells at once, because each event contains the progress of the evaluation."""
    summary = progress_summary(session, evaluation.id)
    events = [
        {
            "cell": cell.id,
            "position": cell.position,
            "scheme": cell.scheme,
            "attack": cell.attack,
            "status": cell.status,
            "attempt": cell.attempt,
            "error": cell.error,
            "result": stored_headline(cell.result),
            **summary,
        }
        for cell in sorted(cells, key=lambda cell: cell.position)
    ]
    append_events(session, evaluation, "cell", *events)


def on_key_status_changed(session: Session, evaluation: Evaluation, key_id: str) -> None:
    """The same for a key that is trained for the evaluation. Fails the cells that wait for a key that failed."""
    key = session.get_one(Key, key_id, populate_existing=True)
    append_progress(session, evaluation, key)
    _start_if_running(session, evaluation, key)
    if key.status in (Status.FAILED, Status.CANCELLED):
        reason = key.error["detail"] if key.error else "its training was cancelled"
        values = {
            "status": Status.FAILED,
            "finished_at": func.clock_timestamp(),
            "error": {"code": "key_unusable", "detail": f"the key {key.id} could not be trained: {reason}"},
        }
        fail_waiting_cells = update(Cell).where(cells_using_key(key_id), Cell.status == Status.QUEUED).values(values)
        append_cell_events(session, evaluation, update_returning(session, evaluation, Cell, fail_waiting_cells))
    finish_if_complete(session, evaluation)


def append_progress(session: Session, evaluation: Evaluation, *jobs: Cell | Key) -> None:
    """Append the progress of cells, or of keys that are trained for the evaluation."""
    summary = progress_summary(session, evaluation.id)
    events = []
    for job in jobs:
        payload = {"progress": job.progress, "phase": job.phase, "evaluation": summary}
        if isinstance(job, Key):
            payload |= {"scheme": job.scheme, "status": job.status, "error": job.error}
        events.append(event_subject(job) | payload)
    append_events(session, evaluation, "progress", *events)


def event_subject(job: Cell | Key) -> dict[str, Any]:
    """The fields that name the job of an event."""
    return {"cell": job.id} if isinstance(job, Cell) else {"cell": None, "key": job.id}


def cells_using_key(key_id: str) -> ColumnElement[bool]:
    """WHERE clause."""
    key_id_of_cell: ColumnElement[str] = Cell.scheme["key_id"].astext
    return key_id_of_cell == key_id


def finish_if_complete(session: Session, evaluation: Evaluation) -> None:
    """Finish a locked evaluation whose cells and trained keys have all ended."""
    if evaluation.status in TERMINAL:
        return
    training = select(Key.id).where(Key.evaluation_id == evaluation.id, Key.status.in_(ACTIVE))
    if session.scalar(training.limit(1)) is not None:
        return
    cells = session.scalars(select(Cell.status).where(Cell.evaluation_id == evaluation.id))
    final_status = aggregate_status([Status(status) for status in cells])
    if final_status is not None:
        evaluation.finished_at = func.clock_timestamp()
        set_status(session, evaluation, final_status)
        _add_webhook_deliveries(session, evaluation)


def _add_webhook_deliveries(session: Session, evaluation: Evaluation) -> None:
    """In the transaction that ends the evaluation, so that no crash loses a delivery."""
    event = "evaluation.finished"
    subscribed = Webhook.account_id == evaluation.account_id, literal(event) == any_(Webhook.events)
    # A webhook deleted meanwhile would violate the foreign key and undo the end of the evaluation.
    webhooks = session.scalars(select(Webhook.id).where(*subscribed).with_for_update(read=True, key_share=True))
    session.add_all(
        WebhookDelivery(id=new_id("delivery"), webhook_id=id, evaluation_id=evaluation.id, event=event)
        for id in webhooks
    )


def update_returning(session: Session, evaluation: Evaluation, table: type[_Job], statement: Update) -> Sequence[_Job]:
    """Update rows of the evaluation and return them."""
    rows = statement.where(table.evaluation_id == evaluation.id).returning(table)
    return session.scalars(rows, execution_options={"populate_existing": True, "synchronize_session": False}).all()


def progress_summary(session: Session, evaluation_id: str) -> dict[str, Any]:
    """Counts of cells that can run, completed and in all, and the progress of the evaluation with its trained keys."""
    cells = session.execute(_select_progress(Cell, Cell.attack).where(Cell.evaluation_id == evaluation_id)).all()
    keys = session.execute(_select_progress(Key, Key.scheme).where(Key.evaluation_id == evaluation_id)).all()
    done, total = count_cells(cells)
    return {"done": done, "total": total, "fraction": round(eta.weighted_progress(job_progress(cells, keys)), 4)}


def count_cells(cells: Sequence[Any]) -> tuple[int, int]:
    """Completed cells and all cells, without those that do not apply."""
    runnable = [cell for cell in cells if cell.status != Status.NOT_APPLICABLE]
    return sum(cell.status in COMPLETED for cell in runnable), len(runnable)


def _select_progress(table: type[Cell] | type[Key], kind: Any) -> Select[Any]:
    return select(kind, table.status, table.progress, table.estimated_core_seconds, table.started_at, table.finished_at)


def job_progress(cells: Sequence[Any], keys: Sequence[Any]) -> list[eta.JobProgress]:
    """The columns that progress and ETA need."""
    kinds = [(cell.attack["name"], catalog.is_training_attack(cell.attack["name"]), cell) for cell in cells]
    kinds += [(f"key of {key.scheme}", True, key) for key in keys]
    return [
        eta.JobProgress(
            kind, trains, Status(job.status), job.progress, job.started_at, job.finished_at, job.estimated_core_seconds
        )
        for kind, trains, job in kinds
    ]


def _start_if_running(session: Session, evaluation: Evaluation, job: Cell | Key) -> None:
    if evaluation.status == Status.QUEUED and job.status == Status.RUNNING:
        evaluation.started_at = func.clock_timestamp()
        set_status(session, evaluation, Status.RUNNING)


def set_status(session: Session, evaluation: Evaluation, status: Status) -> None:
    evaluation.status = status
    append_events(session, evaluation, "status", {"status": status.value, **progress_summary(session, evaluation.id)})
