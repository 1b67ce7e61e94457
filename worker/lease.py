"""Leases on job rows: claim, heartbeat, fence, release. For every table with the columns of JobMixin.

    lease = claim(session, Cell, id, owner, seconds)       # compare-and-set; None if the row is not claimable
    with LeaseKeeper(sessions, lease, ...) as keeper:      # renews the lease in a thread
        ... keeper.raise_if_stopped() ...                  # raises the reason to stop the job
    end(session, lease, Status.SUCCEEDED, result=...)      # raises LeaseLost if another worker holds the row

The fence is (id, attempt, lease_owner). Every write checks it, so a worker whose lease expired writes nothing. All
times are on the database's clock.
"""

from __future__ import annotations

import contextvars
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, select, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from unveil.app.db.job_states import ACTIVE, Status, allowed_predecessors
from unveil.app.db.tables import Cell, Key
from unveil.models.core.errors import Cancelled
from unveil.worker import shutdown

log = logging.getLogger(__name__)

JobTable = type[Cell] | type[Key]
JOB_TABLES: tuple[JobTable, ...] = (Key, Cell)

LEASED = (Status.RUNNING, Status.CANCELLING)
_CHECK_INTERVAL_S = 1.0  # between two reads of the cancel flag
_STOP_GRACE_S = 5.0  # for a job to stop by itself at a shutdown, when it is cancelled or over its budget
_STORE_RETRY_TIMEOUT_S = 600.0  # how long a finished outcome waits for an unavailable database


class LeaseLost(Cancelled):
    """Another worker holds the row, or it has ended: stop and write nothing."""


class CancelRequested(Cancelled):
    """The owner cancelled the job, and its row is cancelled."""


class LeaseReleased(Cancelled):
    """The worker shuts down and has queued the row for another one."""


class OverBudget(Cancelled):
    """The job has used the time of its profile, and its row has failed."""


@dataclass(frozen=True)
class Lease:
    table: JobTable
    id: str
    owner: str
    attempt: int
    earlier_seconds: float = 0.0  # used by earlier attempts
    claimed_at: float = field(default_factory=time.monotonic)

    @property
    def seconds_used(self) -> float:
        """By all attempts, this one included."""
        return self.earlier_seconds + time.monotonic() - self.claimed_at

    def fence(self) -> ColumnElement[bool]:
        """The WHERE clause of every write."""
        row = self.table
        return and_(
            row.id == self.id,
            row.attempt == self.attempt,
            row.lease_owner == self.owner,
            row.status.in_(LEASED),
        )


def seconds_from_now(seconds: float) -> ColumnElement[Any]:
    """On the database's clock."""
    return func.clock_timestamp() + timedelta(seconds=seconds)


def claimable(table: JobTable) -> ColumnElement[bool]:
    """Queued, and for a cell: its key is not being trained."""
    queued = table.status == Status.QUEUED
    if table is not Cell:
        return queued
    return queued & ~exists().where(Key.id == Cell.scheme["key_id"].astext, Key.status.in_(ACTIVE))


def claim(session: Session, table: JobTable, id: str, owner: str, seconds: float) -> Lease | None:
    """Take a claimable row; None if another worker was faster, or it ended or was deleted."""
    row = session.execute(
        update(table)
        .where(table.id == id, claimable(table))
        .values(
            status=Status.RUNNING,
            attempt=table.attempt + 1,
            lease_owner=owner,
            lease_until=seconds_from_now(seconds),
            started_at=func.coalesce(table.started_at, func.clock_timestamp()),
        )
        .returning(table.attempt, table.seconds_used)
        .execution_options(synchronize_session=False)
    ).first()
    return None if row is None else Lease(table, id, owner, row.attempt, row.seconds_used)


def write(session: Session, lease: Lease, **values: Any) -> None:
    """Update columns behind the fence. Raises LeaseLost."""
    _update_fenced(session, lease, lease.fence(), values)


def renew(session: Session, lease: Lease, seconds: float) -> None:
    """Raises LeaseLost."""
    write(session, lease, lease_until=seconds_from_now(seconds))


def end(session: Session, lease: Lease, status: Status, **values: Any) -> None:
    """Set the final status. Raises LeaseLost."""
    _update_fenced(
        session,
        lease,
        lease.fence() & lease.table.status.in_(allowed_predecessors(status)),
        {
            "status": status, "lease_owner": None, "lease_until": None, "finished_at": func.clock_timestamp(),
            "checkpoint_wrapped_key": None, **values,
        },
    )  # fmt: skip


def release(session: Session, lease: Lease, **values: Any) -> None:
    """Requeue the row, or end it if it is being cancelled. Leaves attempts_without_progress. Raises LeaseLost."""
    if read_status(session, lease, for_update=True) == Status.CANCELLING:
        end(session, lease, Status.CANCELLED)
        return
    values = {"status": Status.QUEUED, "lease_owner": None, "lease_until": None, **values}
    _update_fenced(session, lease, lease.fence() & (lease.table.status == Status.RUNNING), values)


def read_status(session: Session, lease: Lease, *, for_update: bool = False) -> Status:
    """Running or cancelling. Raises LeaseLost."""
    query = select(lease.table.status).where(lease.fence())
    status = session.scalar(query.with_for_update() if for_update else query)
    if status is None:
        raise LeaseLost(lease.id)
    return Status(status)


def _update_fenced(session: Session, lease: Lease, fence: ColumnElement[bool], values: dict[str, Any]) -> None:
    result: Any = session.execute(
        update(lease.table)
        .where(fence)
        .values(seconds_used=lease.seconds_used, **values)
        .execution_options(synchronize_session=False)
    )
    if result.rowcount == 0:
        raise LeaseLost(lease.id)


class LeaseKeeper:
    """Renews a lease in a thread and detects reasons to stop: a cancel request, the budget, a lost lease, a shutdown.

    The thread ends or requeues the row at once, because a job may compute for minutes between two progress callbacks.
    If such a job does not stop within a grace period, the thread ends the process, and the pool starts another.

    end: ends the row, called with CancelRequested or OverBudget. release: requeues it. charge: receives the session of
    a renewal, to charge the account for the time since the last one.
    """

    def __init__(
        self,
        sessions: sessionmaker[Session],
        lease: Lease,
        *,
        lease_s: float,
        heartbeat_s: float,
        release: Callable[[], None],
        end: Callable[[Cancelled], None],
        budget_s: float = math.inf,
        charge: Callable[[Session], None] = lambda _: None,
    ) -> None:
        self._sessions, self._lease = sessions, lease
        self._lease_s, self._heartbeat_s, self._budget_s = lease_s, heartbeat_s, budget_s
        self._release, self._end, self._charge = release, end, charge
        self._stop_reason: Cancelled | None = None
        self._stop_event = threading.Event()
        run = contextvars.copy_context().run  # keeps the log context of the job
        self._thread = threading.Thread(target=run, args=(self._run,), name=f"lease-{lease.id}", daemon=True)

    def __enter__(self) -> LeaseKeeper:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Replaces LeaseLost by the reason for which this thread ended the lease."""
        self._stop_event.set()
        self._thread.join()
        self._charge_rest()
        if kind is LeaseLost:
            self.raise_if_stopped()

    def raise_if_stopped(self) -> None:
        """Raises LeaseLost, CancelRequested, OverBudget or LeaseReleased if the job should stop."""
        if self._stop_reason is not None:
            raise self._stop_reason

    def _run(self) -> None:
        self._renew_until_stopped()
        # The job has not reached its next progress callback. After a lost lease it may be about to store its outcome.
        while not self._stop_event.is_set():
            must_stop = shutdown.requested.is_set() or isinstance(self._stop_reason, CancelRequested | OverBudget)
            if must_stop and not self._stop_event.wait(_STOP_GRACE_S):
                log.warning("job %s did not stop within %.0f s; ending the process", self._lease.id, _STOP_GRACE_S)
                self._charge_rest()
                os._exit(0)
            self._stop_event.wait(_CHECK_INTERVAL_S)

    def _charge_rest(self) -> None:
        try:
            with self._sessions.begin() as session:
                self._charge(session)
        except DBAPIError as error:
            log.warning("the last seconds of job %s are not charged: %s", self._lease.id, error)

    def _renew_until_stopped(self) -> None:
        renewed_at = time.monotonic()
        while not self._stop_event.wait(min(_CHECK_INTERVAL_S, self._heartbeat_s)):
            if shutdown.requested.is_set():
                self._release_on_shutdown()
                return
            due = time.monotonic() - renewed_at >= self._heartbeat_s
            try:
                if self._renew_and_read_status(also_renew=due) == Status.CANCELLING:
                    self._end_row(CancelRequested(self._lease.id))
                    return
                if self._lease.seconds_used > self._budget_s:
                    self._end_row(OverBudget(self._lease.id))
                    return
            except LeaseLost as lease_lost:
                self._stop_reason = lease_lost
                return
            except DBAPIError as error:
                # The database cannot confirm the lease: once its duration has passed, another worker may hold the row.
                log.warning("job %s cannot reach the database: %s", self._lease.id, error.orig)
                if time.monotonic() - renewed_at > self._lease_s:
                    self._stop_reason = LeaseLost(self._lease.id)
                    return
            else:
                renewed_at = time.monotonic() if due else renewed_at

    def _renew_and_read_status(self, *, also_renew: bool) -> Status:
        with self._sessions.begin() as session:
            if also_renew:
                renew(session, self._lease, self._lease_s)
                self._charge(session)
            return read_status(session, self._lease)

    def _end_row(self, reason: Cancelled) -> None:
        self._end(reason)
        self._stop_reason = reason

    def _release_on_shutdown(self) -> None:
        try:
            self._release()
        except LeaseLost as lease_lost:
            self._stop_reason = lease_lost
        except DBAPIError as error:
            log.warning("job %s cannot be released and waits until its lease expires: %s", self._lease.id, error.orig)
            self._stop_reason = LeaseLost(self._lease.id)
        else:
            self._stop_reason = LeaseReleased(self._lease.id)


def retry_while_db_down(id: str, write: Callable[[], None]) -> None:
    """Retry a write while the database is unavailable. Raises OperationalError after ten minutes."""
    deadline = time.monotonic() + _STORE_RETRY_TIMEOUT_S
    pause = 0.5
    while True:
        try:
            return write()
        except OperationalError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("%s waits for the database: %s", id, error.orig)
            time.sleep(pause)
            pause = min(2 * pause, 15.0)
