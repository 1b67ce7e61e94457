"""Cancelling: queued jobs end at once, running ones are asked to stop."""

from __future__ import annotations

from sqlalchemy import Update, case, func, select, update
from sqlalchemy.orm import Session

from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Evaluation, Key
from unveil.app.jobs import event_log


def cancel_evaluation(session: Session, evaluation: Evaluation) -> None:
    """Cancel a locked evaluation: queued jobs end now, running ones are asked to stop."""
    if evaluation.status == Status.RUNNING:
        event_log.set_status(session, evaluation, Status.CANCELLING)
    cells = event_log.update_returning(session, evaluation, Cell, _cancel_statement(Cell))
    event_log.append_cell_events(session, evaluation, cells)
    keys = event_log.update_returning(session, evaluation, Key, _cancel_statement(Key))
    event_log.append_progress(session, evaluation, *sorted(keys, key=lambda key: key.id))
    event_log.finish_if_complete(session, evaluation)


def cancel_job(session: Session, id: str, evaluation_id: str | None) -> None:
    """Cancel one active cell or training: a queued one ends now, a running one is asked to stop."""
    evaluation = None if evaluation_id is None else event_log.lock_evaluation(session, evaluation_id)
    if session.scalar(_cancel_statement(Cell).where(Cell.id == id).returning(Cell.id)) and evaluation is not None:
        event_log.on_cell_status_changed(session, evaluation, id)
    if session.scalar(_cancel_statement(Key).where(Key.id == id).returning(Key.id)) and evaluation is not None:
        event_log.on_key_status_changed(session, evaluation, id)


def cancel_jobs_of_account(session: Session, account_id: str) -> None:
    """Cancel all active jobs. The caller has locked the account, so that it cannot create more."""
    unfinished = select(Evaluation.id).where(Evaluation.account_id == account_id, Evaluation.finished_at.is_(None))
    for evaluation_id in session.scalars(unfinished.order_by(Evaluation.id)).all():
        evaluation = event_log.lock_evaluation(session, evaluation_id)
        if evaluation is not None:
            cancel_evaluation(session, evaluation)
    session.execute(_cancel_statement(Key).where(Key.account_id == account_id, Key.evaluation_id.is_(None)))


def _cancel_statement(table: type[Cell] | type[Key]) -> Update:
    is_queued = table.status == Status.QUEUED
    return (
        update(table)
        .where(table.status.in_([Status.QUEUED, Status.RUNNING]))
        .values(
            status=case((is_queued, Status.CANCELLED), else_=Status.CANCELLING),
            finished_at=case((is_queued, func.clock_timestamp())),
        )
    )
