"""Finds what was lost: rows whose worker fell silent, ids that no message carries any more, evaluations left open,
and what ended jobs and destroyed keys left in the blob store.

May run at any time, any number of times, in any number of processes at once. What cannot be done for one row keeps
nothing else from being done.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError as BrokerAway
from sqlalchemy import ARRAY, ColumnElement, Text, any_, delete, exists, func, literal, or_, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from unveil.app import broker
from unveil.app.db.job_states import ACTIVE, Status
from unveil.app.db.tables import Cell, Evaluation, Key, Worker
from unveil.app.jobs import event_log
from unveil.app.observability import failpoints
from unveil.app.settings import Settings
from unveil.app.storage import Blobs, StorageFailed
from unveil.worker import counts
from unveil.worker.jobs import TASKS
from unveil.worker.lease import HELD, JobTable, until, waits
from unveil.worker.periodic import Regular
from unveil.worker.runtime import runtime

log = logging.getLogger(__name__)

_TAKEN_WITHIN_S = 10.0  # a message that was sent longer ago may be lost
_WORKER_FORGOTTEN_S = 24 * 3600.0
# Whose turn comes first when many are rung for: without its key a cell cannot be run.
_ORDER = {Key: (Key.id,), Cell: (Cell.evaluation_id, Cell.position)}


class Sweeper(Regular):
    """In the main process of a worker that serves `ops`: there it needs no broker, and waits for no other work."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("sweeper", settings.sweep_s)

    def act(self) -> None:
        tools = runtime()
        sweep(tools.sessions, tools.celery, tools.settings)


def sweep(sessions: sessionmaker[Session], celery: Celery, settings: Settings) -> None:
    with _apart("giving up silent workers"):
        give_up_silent_workers(sessions, settings)
    with _apart("finishing evaluations"):
        finish_evaluations(sessions)
    with _apart("ringing again"):
        ring_again(sessions, celery)
    with _apart("forgetting workers"), sessions.begin() as session:
        session.execute(delete(Worker).where(Worker.seen_at < until(-_WORKER_FORGOTTEN_S)))
    with _apart("clearing blobs"):
        try:
            clear_blobs(sessions, Blobs(settings))
        except StorageFailed as failed:
            log.warning("blobs of the past stay for now: %s", failed)


@contextmanager
def _apart(what: str) -> Iterator[None]:
    """What fails within is logged, and done again by the next sweep. Raises OperationalError: without a database
    nothing can be done.
    """
    try:
        yield
    except OperationalError:
        raise
    except Exception:
        log.exception("%s failed", what)


def give_up_silent_workers(sessions: sessionmaker[Session], settings: Settings) -> None:
    """Queue jobs whose lease ran out once more; fail those that never got further, cancel those that were to be."""
    for table in TASKS:
        _give_up_expired(sessions, settings, table)


def _give_up_expired(sessions: sessionmaker[Session], settings: Settings, table: JobTable) -> None:
    expired = table.status.in_(HELD) & (table.lease_until < func.clock_timestamp())
    with sessions() as session:
        suspects = session.execute(select(table.id, table.evaluation_id).where(expired)).all()
    tell = event_log.cell_changed if table is Cell else event_log.key_changed
    for id, evaluation_id in suspects:
        with _apart(f"giving up {id}"), sessions.begin() as session:
            # Skip what somebody holds: a worker that lives, or another sweeper. The next sweep comes soon.
            evaluation = None
            if evaluation_id is not None:
                evaluation = event_log.lock(session, evaluation_id, skip_locked=True)
                if evaluation is None:
                    continue
            chosen = select(table).where(table.id == id, expired).with_for_update(skip_locked=True)
            job: Any = session.scalar(chosen)
            if job is None:
                continue
            _give_up(job, settings.max_stalls)
            counts.recoveries[table.__tablename__] += 1
            log.warning("%s: the worker of attempt %d is gone; now %s", job.id, job.attempt, job.status)
            session.flush()
            if evaluation is not None:
                tell(session, evaluation, job.id)
        failpoints.point("given-up-before-ring")


def _give_up(job: Cell | Key, max_stalls: int) -> None:
    job.lease_owner = job.lease_until = None
    job.stalls += 1
    if job.status == Status.CANCELLING:
        job.status, job.finished_at = Status.CANCELLED, func.clock_timestamp()
    elif job.stalls >= max_stalls:
        job.status, job.finished_at = Status.FAILED, func.clock_timestamp()
        job.error = {
            "code": "poison",
            "detail": f"{job.stalls} attempts in a row ended without a word and without progress; "
            "the worker was killed, or ran out of memory",
        }
    else:
        job.status, job.sent_at = Status.QUEUED, None


def finish_evaluations(sessions: sessionmaker[Session]) -> None:
    """End evaluations whose cells all have."""
    open_cell = exists().where(Cell.evaluation_id == Evaluation.id, Cell.status.in_(ACTIVE))
    with sessions() as session:
        ids = session.scalars(select(Evaluation.id).where(Evaluation.finished_at.is_(None), ~open_cell)).all()
    for id in ids:
        with _apart(f"finishing {id}"), sessions.begin() as session:
            evaluation = event_log.lock(session, id, skip_locked=True)
            if evaluation is not None:
                event_log.settle(session, evaluation)


def ring_again(sessions: sessionmaker[Session], celery: Celery) -> None:
    """Send queued ids that were never sent; and, when fewer messages wait than ids, those sent a while ago."""
    with sessions() as session:
        counts = {table: session.scalar(select(func.count()).where(waits(table))) or 0 for table in TASKS}
    if not any(counts.values()):
        return
    try:
        lost = broker.waiting(celery, broker.RUN_CELL) < sum(counts.values())  # one queue for all of them
        for table, task in TASKS.items():
            ids = _to_ring(sessions, table, lost)
            failpoints.point("sweep-before-ring")
            if ids:
                log.info("ringing again for %d of %s", len(ids), table.__tablename__)
                broker.ring(celery, task, *ids)
    except BrokerAway as away:
        log.warning("the broker is away: %s", away)


def _to_ring(sessions: sessionmaker[Session], table: JobTable, lost: bool) -> list[str]:
    """The ids to send, marked as sent now."""
    never = table.sent_at.is_(None)
    stale: ColumnElement[bool] = or_(never, table.sent_at < until(-_TAKEN_WITHIN_S)) if lost else never
    with sessions.begin() as session:
        chosen = select(table.id).where(waits(table), stale).order_by(*_ORDER[table])
        ids = list(session.scalars(chosen.with_for_update(skip_locked=True, of=table)))
        session.execute(update(table).where(_among(table, ids)).values(sent_at=func.clock_timestamp()))
    return ids


def _among(table: JobTable, ids: Collection[str]) -> ColumnElement[bool]:
    """As one array: a statement takes 65,535 parameters."""
    return table.id == any_(literal(list(ids), ARRAY(Text)))


def clear_blobs(sessions: sessionmaker[Session], blobs: Blobs) -> None:
    """Checkpoints of jobs that are over, their locks first, and weights of destroyed keys: what a crash left behind."""
    with sessions.begin() as session:
        for table in TASKS:
            over = table.checkpoint_lock.is_not(None) & table.status.not_in(ACTIVE)
            session.execute(update(table).where(over).values(checkpoint_lock=None))
    folders = {name.rsplit("/", 1)[-1]: name for name in blobs.names("checkpoints")}  # first: a job may begin meanwhile
    with sessions() as session:
        for table in TASKS:
            for id in session.scalars(select(table.id).where(_among(table, folders), table.status.in_(ACTIVE))):
                del folders[id]
        destroyed = session.execute(
            select(Key.id, Key.blob).where(Key.destroyed_at.is_not(None), Key.blob.is_not(None))
        ).all()
    for folder in folders.values():
        blobs.delete_folder(folder)
    for id, blob in destroyed:
        blobs.delete(str(blob))
        failpoints.point("weights-gone-before-row")
        with sessions.begin() as session:
            session.execute(update(Key).where(Key.id == id).values(blob=None))
