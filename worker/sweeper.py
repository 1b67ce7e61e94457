"""Finds what was lost: rows whose worker fell silent, ids that no message carries any more, evaluations left open.

May run at any time, any number of times, in any number of processes at once.
"""

from __future__ import annotations

import logging

from celery import Celery
from kombu.exceptions import OperationalError as BrokerAway
from sqlalchemy import delete, exists, func, or_, select, update
from sqlalchemy.orm import Session, sessionmaker

from app import queue
from app.core.states import ACTIVE, Status
from app.db import journal
from app.db.tables import Cell, Evaluation, Worker
from app.settings import Settings
from worker.lease import until

log = logging.getLogger(__name__)

_TAKEN_WITHIN_S = 10.0  # a message that was sent longer ago may be lost
_WORKER_FORGOTTEN_S = 24 * 3600.0


def sweep(sessions: sessionmaker[Session], celery: Celery, settings: Settings) -> None:
    give_up_silent_workers(sessions, settings)
    finish_evaluations(sessions)
    ring_again(sessions, celery)
    with sessions.begin() as session:
        session.execute(delete(Worker).where(Worker.seen_at < until(-_WORKER_FORGOTTEN_S)))


def give_up_silent_workers(sessions: sessionmaker[Session], settings: Settings) -> None:
    """Queue cells whose lease ran out once more; fail those that never got further, cancel those that were to be."""
    expired = Cell.status.in_([Status.RUNNING, Status.CANCELLING]) & (Cell.lease_until < func.clock_timestamp())
    with sessions() as session:
        suspects = session.execute(select(Cell.id, Cell.evaluation_id).where(expired)).all()
    for cell_id, evaluation_id in suspects:
        with sessions.begin() as session:
            # Skip what somebody holds: a worker that lives, or another sweeper. The next sweep comes soon.
            evaluation = journal.lock(session, evaluation_id, skip_locked=True)
            if evaluation is None:
                continue
            cell = session.scalar(select(Cell).where(Cell.id == cell_id, expired).with_for_update(skip_locked=True))
            if cell is None:
                continue
            _give_up(cell, settings.max_stalls)
            log.warning("cell %s: the worker of attempt %d fell silent; now %s", cell.id, cell.attempt, cell.status)
            session.flush()
            journal.cell_changed(session, evaluation, cell.id)


def _give_up(cell: Cell, max_stalls: int) -> None:
    cell.lease_owner = cell.lease_until = None
    cell.stalls += 1
    if cell.status == Status.CANCELLING:
        cell.status, cell.finished_at = Status.CANCELLED, func.clock_timestamp()
    elif cell.stalls >= max_stalls:
        cell.status, cell.finished_at = Status.FAILED, func.clock_timestamp()
        cell.error = {
            "code": "poison",
            "detail": f"{cell.stalls} attempts in a row ended without a word and without progress; "
            "the worker was killed, or ran out of memory",
        }
    else:
        cell.status, cell.sent_at = Status.QUEUED, None


def finish_evaluations(sessions: sessionmaker[Session]) -> None:
    """End evaluations whose cells all have."""
    open_cell = exists().where(Cell.evaluation_id == Evaluation.id, Cell.status.in_(ACTIVE))
    with sessions() as session:
        ids = session.scalars(select(Evaluation.id).where(Evaluation.finished_at.is_(None), ~open_cell)).all()
    for id in ids:
        with sessions.begin() as session:
            evaluation = journal.lock(session, id, skip_locked=True)
            if evaluation is not None:
                journal.settle(session, evaluation)


def ring_again(sessions: sessionmaker[Session], celery: Celery) -> None:
    """Send queued ids that were never sent; and, when fewer messages wait than ids, those sent a while ago."""
    queued = Cell.status == Status.QUEUED
    with sessions() as session:
        count = session.scalar(select(func.count()).where(queued)) or 0
    if count == 0:
        return
    try:
        lost = queue.waiting(celery, queue.RUN_CELL) < count
        never = Cell.sent_at.is_(None)
        stale = or_(never, Cell.sent_at < until(-_TAKEN_WITHIN_S)) if lost else never
        with sessions.begin() as session:
            chosen = (
                select(Cell.id)
                .where(queued, stale)
                .order_by(Cell.evaluation_id, Cell.position)
                .with_for_update(skip_locked=True)
            )
            ids = session.scalars(chosen).all()
            session.execute(update(Cell).where(Cell.id.in_(ids)).values(sent_at=func.clock_timestamp()))
        if ids:
            log.info("ringing again for %d cells", len(ids))
            queue.ring(celery, queue.RUN_CELL, *ids)
    except BrokerAway as away:
        log.warning("the broker is away: %s", away)
