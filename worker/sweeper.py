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
from kombu.exceptions import OperationalError as BrokerUnavailable
from sqlalchemy import ARRAY, ColumnElement, Text, any_, delete, exists, func, literal, or_, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from unveil.app import broker
from unveil.app.db.job_states import ACTIVE, Status
from unveil.app.db.tables import Cell, Evaluation, Key, ProcessHeartbeat
from unveil.app.jobs import event_log
from unveil.app.observability import failpoints
from unveil.app.settings import Settings
from unveil.app.storage import BlobStore, StorageError
from unveil.worker import counts
from unveil.worker.jobs import TASK_BY_TABLE
from unveil.worker.lease import LEASED, JobTable, claimable, seconds_from_now
from unveil.worker.periodic import PeriodicThread
from unveil.worker.runtime import get_runtime

log = logging.getLogger(__name__)

_REDISPATCH_AFTER_S = 10.0  # a message that was sent longer ago may be lost
_HEARTBEAT_RETENTION_S = 24 * 3600.0
# Whose turn comes first when many are rung for: without its key a cell cannot be run.
_DISPATCH_ORDER = {Key: (Key.id,), Cell: (Cell.evaluation_id, Cell.position)}


class Sweeper(PeriodicThread):
    """In the main process of a worker that serves `ops`: there it needs no broker, and waits for no other work."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("sweeper", settings.sweep_interval_s)

    def tick(self) -> None:
        runtime = get_runtime()
        sweep(runtime.sessions, runtime.celery, runtime.settings)


def sweep(sessions: sessionmaker[Session], celery: Celery, settings: Settings) -> None:
    with _log_and_continue("giving up silent workers"):
        requeue_expired_leases(sessions, settings)
    with _log_and_continue("finishing evaluations"):
        finish_evaluations(sessions)
    with _log_and_continue("ringing again"):
        redispatch_lost_messages(sessions, celery)
    with _log_and_continue("forgetting workers"), sessions.begin() as session:
        session.execute(
            delete(ProcessHeartbeat).where(ProcessHeartbeat.seen_at < seconds_from_now(-_HEARTBEAT_RETENTION_S))
        )
    with _log_and_continue("clearing blobs"):
        try:
            delete_leftover_blobs(sessions, BlobStore(settings))
        except StorageError as error:
            log.warning("blobs of the past stay for now: %s", error)


@contextmanager
def _log_and_continue(task: str) -> Iterator[None]:
    """What fails within is logged, and done again by the next sweep. Raises OperationalError: without a database
    nothing can be done.
    """
    try:
        yield
    except OperationalError:
        raise
    except Exception:
        log.exception("%s failed", task)


def requeue_expired_leases(sessions: sessionmaker[Session], settings: Settings) -> None:
    """Queue jobs whose lease ran out once more; fail those that never got further, cancel those that were to be."""
    for table in TASK_BY_TABLE:
        _requeue_expired_in_table(sessions, settings, table)


def _requeue_expired_in_table(sessions: sessionmaker[Session], settings: Settings, table: JobTable) -> None:
    expired = table.status.in_(LEASED) & (table.lease_until < func.clock_timestamp())
    with sessions() as session:
        suspects = session.execute(select(table.id, table.evaluation_id).where(expired)).all()
    publish = event_log.on_cell_status_changed if table is Cell else event_log.on_key_status_changed
    for id, evaluation_id in suspects:
        with _log_and_continue(f"giving up {id}"), sessions.begin() as session:
            # Skip what somebody holds: a worker that lives, or another sweeper. The next sweep comes soon.
            evaluation = None
            if evaluation_id is not None:
                evaluation = event_log.lock_evaluation(session, evaluation_id, skip_locked=True)
                if evaluation is None:
                    continue
            query = select(table).where(table.id == id, expired).with_for_update(skip_locked=True)
            job: Any = session.scalar(query)
            if job is None:
                continue
            _requeue_or_end(job, settings.max_attempts_without_progress)
            counts.lease_recoveries[table.__tablename__] += 1
            log.warning("%s: the worker of attempt %d is gone; now %s", job.id, job.attempt, job.status)
            session.flush()
            if evaluation is not None:
                publish(session, evaluation, job.id)
        failpoints.failpoint("given-up-before-ring")


def _requeue_or_end(job: Cell | Key, max_attempts: int) -> None:
    job.lease_owner = job.lease_until = None
    job.attempts_without_progress += 1
    if job.status == Status.CANCELLING:
        job.status, job.finished_at = Status.CANCELLED, func.clock_timestamp()
    elif job.attempts_without_progress >= max_attempts:
        job.status, job.finished_at = Status.FAILED, func.clock_timestamp()
        job.error = {
            "code": "poison",
            "detail": f"{job.attempts_without_progress} attempts in a row ended without a word and without progress; "
            "the worker was killed, or ran out of memory",
        }
    else:
        job.status, job.enqueued_at = Status.QUEUED, None


def finish_evaluations(sessions: sessionmaker[Session]) -> None:
    """End evaluations whose cells all have."""
    open_cell = exists().where(Cell.evaluation_id == Evaluation.id, Cell.status.in_(ACTIVE))
    with sessions() as session:
        ids = session.scalars(select(Evaluation.id).where(Evaluation.finished_at.is_(None), ~open_cell)).all()
    for id in ids:
        with _log_and_continue(f"finishing {id}"), sessions.begin() as session:
            evaluation = event_log.lock_evaluation(session, id, skip_locked=True)
            if evaluation is not None:
                event_log.finish_if_complete(session, evaluation)


def redispatch_lost_messages(sessions: sessionmaker[Session], celery: Celery) -> None:
    """Send queued ids that were never sent; and, when fewer messages wait than ids, those sent a while ago."""
    with sessions() as session:
        queued_counts = {
            table: session.scalar(select(func.count()).where(claimable(table))) or 0 for table in TASK_BY_TABLE
        }
    if not any(queued_counts.values()):
        return
    try:
        messages_lost = broker.queue_depth(celery, broker.RUN_CELL) < sum(
            queued_counts.values()
        )  # one queue for all of them
        for table, task in TASK_BY_TABLE.items():
            ids = _mark_for_dispatch(sessions, table, messages_lost)
            failpoints.failpoint("sweep-before-ring")
            if ids:
                log.info("ringing again for %d of %s", len(ids), table.__tablename__)
                broker.enqueue(celery, task, *ids)
    except BrokerUnavailable as error:
        log.warning("the broker is away: %s", error)


def _mark_for_dispatch(sessions: sessionmaker[Session], table: JobTable, messages_lost: bool) -> list[str]:
    """The ids to send, marked as sent now."""
    never_sent = table.enqueued_at.is_(None)
    stale: ColumnElement[bool] = (
        or_(never_sent, table.enqueued_at < seconds_from_now(-_REDISPATCH_AFTER_S)) if messages_lost else never_sent
    )
    with sessions.begin() as session:
        query = select(table.id).where(claimable(table), stale).order_by(*_DISPATCH_ORDER[table])
        ids = list(session.scalars(query.with_for_update(skip_locked=True, of=table)))
        session.execute(update(table).where(_id_is_one_of(table, ids)).values(enqueued_at=func.clock_timestamp()))
    return ids


def _id_is_one_of(table: JobTable, ids: Collection[str]) -> ColumnElement[bool]:
    """As one array: a statement takes 65,535 parameters."""
    return table.id == any_(literal(list(ids), ARRAY(Text)))


def delete_leftover_blobs(sessions: sessionmaker[Session], blobs: BlobStore) -> None:
    """Checkpoints of jobs that are over, their locks first, and weights of destroyed keys: what a crash left behind."""
    with sessions.begin() as session:
        for table in TASK_BY_TABLE:
            ended_with_key = table.checkpoint_wrapped_key.is_not(None) & table.status.not_in(ACTIVE)
            session.execute(update(table).where(ended_with_key).values(checkpoint_wrapped_key=None))
    folders = {
        name.rsplit("/", 1)[-1]: name for name in blobs.list_folder("checkpoints")
    }  # first: a job may begin meanwhile
    with sessions() as session:
        for table in TASK_BY_TABLE:
            for id in session.scalars(select(table.id).where(_id_is_one_of(table, folders), table.status.in_(ACTIVE))):
                del folders[id]
        destroyed = session.execute(
            select(Key.id, Key.weights_blob).where(Key.destroyed_at.is_not(None), Key.weights_blob.is_not(None))
        ).all()
    for folder in folders.values():
        blobs.delete_folder(folder)
    for id, blob in destroyed:
        blobs.delete(str(blob))
        failpoints.failpoint("weights-gone-before-row")
        with sessions.begin() as session:
            session.execute(update(Key).where(Key.id == id).values(weights_blob=None))
