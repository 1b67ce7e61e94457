"""The sweeper repairs what crashes leave: expired leases, jobs without a message, unfinished evaluations whose
jobs have ended, and blobs of ended jobs and destroyed keys.

It may run at any time, any number of times, and in several processes at once. An error on one row does not affect the
others.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError as BrokerUnavailable
from sqlalchemy import ARRAY, ColumnElement, Text, any_, delete, exists, func, literal, select, update
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
from unveil.worker.lease import JOB_TABLES, LEASED, JobTable, claimable, seconds_from_now
from unveil.worker.periodic import PeriodicThread
from unveil.worker.runtime import get_runtime

log = logging.getLogger(__name__)

_HEARTBEAT_RETENTION_S = 24 * 3600.0
_REDISPATCH_LOCK = 0x756E7665  # any number that no other advisory lock of the database uses


class Sweeper(PeriodicThread):
    """Runs in the main process of a worker for the queue `ops`, so it depends on neither the broker nor the pool."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("sweeper", settings.sweep_interval_s)

    def tick(self) -> None:
        runtime = get_runtime()
        sweep(runtime.sessions, runtime.celery, runtime.settings)


def sweep(sessions: sessionmaker[Session], celery: Celery, settings: Settings) -> None:
    with _log_and_continue("requeueing expired leases"):
        requeue_expired_leases(sessions, settings)
    with _log_and_continue("finishing evaluations"):
        finish_evaluations(sessions)
    with _log_and_continue("redispatching lost messages"):
        redispatch_lost_messages(sessions, celery)
    with _log_and_continue("deleting old heartbeats"), sessions.begin() as session:
        session.execute(
            delete(ProcessHeartbeat).where(ProcessHeartbeat.seen_at < seconds_from_now(-_HEARTBEAT_RETENTION_S))
        )
    with _log_and_continue("deleting leftover blobs"):
        try:
            delete_leftover_blobs(sessions, BlobStore(settings))
        except StorageError as error:
            log.warning("leftover blobs are not deleted yet: %s", error)


@contextmanager
def _log_and_continue(task: str) -> Iterator[None]:
    """Logs an exception; the next sweep tries again. Raises OperationalError, since every task needs the database."""
    try:
        yield
    except OperationalError:
        raise
    except Exception:
        log.exception("%s failed", task)


def requeue_expired_leases(sessions: sessionmaker[Session], settings: Settings) -> None:
    """Requeue jobs whose lease expired. Fail those without progress, end those that were being cancelled."""
    for table in JOB_TABLES:
        _requeue_expired_in_table(sessions, settings, table)


def _requeue_expired_in_table(sessions: sessionmaker[Session], settings: Settings, table: JobTable) -> None:
    expired = table.status.in_(LEASED) & (table.lease_until < func.clock_timestamp())
    with sessions() as session:
        suspects = session.execute(select(table.id, table.evaluation_id).where(expired)).all()
    publish = event_log.on_cell_status_changed if table is Cell else event_log.on_key_status_changed
    for id, evaluation_id in suspects:
        with _log_and_continue(f"requeueing {id}"), sessions.begin() as session:
            # Skip rows that a live worker or another sweeper has locked; the next sweep sees them.
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
            log.warning("%s: the lease of attempt %d expired; now %s", job.id, job.attempt, job.status)
            session.flush()
            if evaluation is not None:
                publish(session, evaluation, job.id)
        failpoints.failpoint("lease-expired-before-dispatch")


def _requeue_or_end(job: Cell | Key, max_attempts: int) -> None:
    job.lease_owner = job.lease_until = None
    job.attempts_without_progress += 1
    if job.status == Status.CANCELLING:
        job.status, job.finished_at = Status.CANCELLED, func.clock_timestamp()
    elif job.attempts_without_progress >= max_attempts:
        job.status, job.finished_at = Status.FAILED, func.clock_timestamp()
        job.error = {
            "code": "poison",
            "detail": f"{job.attempts_without_progress} attempts in a row ended without progress: the worker was "
            "killed or ran out of memory",
        }
    else:
        job.status = Status.QUEUED


def finish_evaluations(sessions: sessionmaker[Session]) -> None:
    """Finish evaluations whose cells have all ended."""
    open_cell = exists().where(Cell.evaluation_id == Evaluation.id, Cell.status.in_(ACTIVE))
    with sessions() as session:
        ids = session.scalars(select(Evaluation.id).where(Evaluation.finished_at.is_(None), ~open_cell)).all()
    for id in ids:
        with _log_and_continue(f"finishing {id}"), sessions.begin() as session:
            evaluation = event_log.lock_evaluation(session, id, skip_locked=True)
            if evaluation is not None:
                event_log.finish_if_complete(session, evaluation)


def redispatch_lost_messages(sessions: sessionmaker[Session], celery: Celery) -> None:
    """Send as many messages as there are fewer messages than claimable jobs.

    A worker may have received a message and not claimed its job yet. Then one message is superfluous, and the worker
    that receives it finds no job.
    """
    with sessions.begin() as session:
        # One sweeper at a time, so that several of them do not each send the missing messages.
        if not session.scalar(select(func.pg_try_advisory_xact_lock(_REDISPATCH_LOCK))):
            return
        claimable_jobs = sum(session.scalar(select(func.count()).where(claimable(table))) or 0 for table in JOB_TABLES)
        if claimable_jobs == 0:
            return
        try:
            missing = claimable_jobs - broker.count_job_messages(celery)
            failpoints.failpoint("sweep-before-dispatch")
            if missing > 0:
                log.info("dispatching %d jobs again", missing)
                broker.enqueue_jobs(celery, missing)
        except BrokerUnavailable as error:
            log.warning("the broker is unavailable: %s", error)


def _id_is_one_of(table: JobTable, ids: Collection[str]) -> ColumnElement[bool]:
    """As one array, because a statement has at most 65,535 parameters."""
    return table.id == any_(literal(list(ids), ARRAY(Text)))


def delete_leftover_blobs(sessions: sessionmaker[Session], blobs: BlobStore) -> None:
    """Checkpoints of ended jobs, after their wrapped data keys, and weights of destroyed keys."""
    with sessions.begin() as session:
        for table in JOB_TABLES:
            ended_with_key = table.checkpoint_wrapped_key.is_not(None) & table.status.not_in(ACTIVE)
            session.execute(update(table).where(ended_with_key).values(checkpoint_wrapped_key=None))
    # List the folders before the active jobs: a job that starts in between must keep its folder.
    folders = {name.rsplit("/", 1)[-1]: name for name in blobs.list_folder("checkpoints")}
    with sessions() as session:
        for table in JOB_TABLES:
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
