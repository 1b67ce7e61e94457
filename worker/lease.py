"""Who may work on a row: claim, heartbeat, fence, hand back. For every table with the Job columns.

    lease = claim(session, Cell, id, owner, seconds)       # compare-and-set; None: nobody's to take
    with Watch(sessions, lease, ...) as watch:             # renews the lease in a thread
        ... watch.check() ...                              # raises what should stop the work
    end(session, lease, Status.SUCCEEDED, result=...)      # raises LostLease when the row is no longer ours

The fence is (id, attempt, lease_owner): every write carries it, so a worker that was given up for dead writes
nothing. All times are on the database's clock.
"""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, select, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from unveil.app.db.job_states import ACTIVE, Status, sources
from unveil.app.db.tables import Cell, Key
from unveil.models.core.errors import Cancelled
from unveil.worker import shutdown

log = logging.getLogger(__name__)

JobTable = type[Cell] | type[Key]

HELD = (Status.RUNNING, Status.CANCELLING)
_LOOK_S = 1.0  # how often a watch looks for the cancel flag
_GRACE_S = 5.0  # at a shutdown, how long the work may take to stop by itself


class LostLease(Cancelled):
    """The row is somebody else's, or ended: stop and write nothing."""


_STORE_FOR_S = 600.0  # how long a finished result waits for a database that is down


class CancelRequested(Cancelled):
    """Its owner cancelled the job; the row has ended so."""


class HandedBack(Cancelled):
    """The worker shuts down; the row is queued again for another one."""


@dataclass(frozen=True)
class Lease:
    table: JobTable
    id: str
    owner: str
    attempt: int

    def holds(self) -> ColumnElement[bool]:
        """The fence, as a WHERE."""
        row = self.table
        return and_(
            row.id == self.id,
            row.attempt == self.attempt,
            row.lease_owner == self.owner,
            row.status.in_(HELD),
        )


def until(seconds: float) -> ColumnElement[Any]:
    """So many seconds from now, on the database's clock."""
    return func.clock_timestamp() + timedelta(seconds=seconds)


def waits(table: JobTable) -> ColumnElement[bool]:
    """Queued, and may be taken: a cell waits until the key that is trained for it is there."""
    queued = table.status == Status.QUEUED
    if table is not Cell:
        return queued
    return queued & ~exists().where(Key.id == Cell.scheme["key_id"].astext, Key.status.in_(ACTIVE))


def claim(session: Session, table: JobTable, id: str, owner: str, seconds: float) -> Lease | None:
    """Take a waiting row; None when it is taken, ended or gone."""
    attempt = session.scalar(
        update(table)
        .where(table.id == id, waits(table))
        .values(
            status=Status.RUNNING,
            attempt=table.attempt + 1,
            lease_owner=owner,
            lease_until=until(seconds),
            started_at=func.coalesce(table.started_at, func.clock_timestamp()),
        )
        .returning(table.attempt)
        .execution_options(synchronize_session=False)
    )
    return None if attempt is None else Lease(table, id, owner, attempt)


def write(session: Session, lease: Lease, **values: Any) -> None:
    """Change columns of a row that is ours. Raises LostLease."""
    _fenced(session, lease, lease.holds(), values)


def renew(session: Session, lease: Lease, seconds: float) -> None:
    """Raises LostLease."""
    write(session, lease, lease_until=until(seconds))


def end(session: Session, lease: Lease, status: Status, **values: Any) -> None:
    """Finish. Raises LostLease."""
    _fenced(
        session,
        lease,
        lease.holds() & lease.table.status.in_(sources(status)),
        {
            "status": status, "lease_owner": None, "lease_until": None, "finished_at": func.clock_timestamp(),
            "checkpoint_lock": None, **values,
        },
    )  # fmt: skip


def hand_back(session: Session, lease: Lease) -> None:
    """Put the row back for another worker; a cancelled one ends instead. Counts no stall. Raises LostLease."""
    if status_of(session, lease, lock=True) == Status.CANCELLING:
        end(session, lease, Status.CANCELLED)
        return
    values = {"status": Status.QUEUED, "lease_owner": None, "lease_until": None, "sent_at": None}
    _fenced(session, lease, lease.holds() & (lease.table.status == Status.RUNNING), values)


def status_of(session: Session, lease: Lease, *, lock: bool = False) -> Status:
    """Running or cancelling. Raises LostLease."""
    look = select(lease.table.status).where(lease.holds())
    status = session.scalar(look.with_for_update() if lock else look)
    if status is None:
        raise LostLease(lease.id)
    return Status(status)


def _fenced(session: Session, lease: Lease, where: ColumnElement[bool], values: dict[str, Any]) -> None:
    done: Any = session.execute(
        update(lease.table).where(where).values(**values).execution_options(synchronize_session=False)
    )
    if done.rowcount == 0:
        raise LostLease(lease.id)


class Watch:
    """Keeps a lease alive in a thread, and looks for reasons to stop: cancelled, lost, or the worker's own shutdown.

    `hand_back` puts the row back and `cancel` ends it (they know what else hangs on it). The thread calls them at once,
    without waiting for the work, which may be silent for minutes; at a shutdown it ends the process when the work does
    not stop by itself.
    """

    def __init__(
        self,
        sessions: sessionmaker[Session],
        lease: Lease,
        *,
        lease_s: float,
        heartbeat_s: float,
        hand_back: Callable[[], None],
        cancel: Callable[[], None],
    ) -> None:
        self._sessions, self._lease = sessions, lease
        self._lease_s, self._heartbeat_s = lease_s, heartbeat_s
        self._hand_back, self._cancel = hand_back, cancel
        self._reason: Cancelled | None = None
        self._over = threading.Event()
        run = contextvars.copy_context().run  # its lines in the log are about the same job
        self._thread = threading.Thread(target=run, args=(self._run,), name=f"watch-{lease.id}", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raises CancelRequested or HandedBack in the place of LostLease, where the row was lost to that."""
        self._over.set()
        self._thread.join()
        if kind is LostLease:
            self.check()

    def check(self) -> None:
        """Raises LostLease, CancelRequested or HandedBack when the work should stop."""
        if self._reason is not None:
            raise self._reason

    def _run(self) -> None:
        self._keep()
        while not self._over.is_set():  # the work has not come to its next word yet; a shutdown does not wait for that
            if shutdown.requested.is_set() and not self._over.wait(_GRACE_S):
                log.warning("job %s did not stop in %.0f s; leaving it", self._lease.id, _GRACE_S)
                os._exit(0)
            self._over.wait(_LOOK_S)

    def _keep(self) -> None:
        """Until there is a reason to stop."""
        renewed = time.monotonic()
        while not self._over.wait(min(_LOOK_S, self._heartbeat_s)):
            if shutdown.requested.is_set():
                self._leave()
                return
            due = time.monotonic() - renewed >= self._heartbeat_s
            try:
                if self._look(renew_too=due) == Status.CANCELLING:
                    self._cancel()
                    self._reason = CancelRequested(self._lease.id)
                    return
            except LostLease as lost:
                self._reason = lost
                return
            except DBAPIError as away:
                # Our lease ends on a clock that we cannot ask: past it, somebody else may have the row.
                log.warning("cannot reach the database from job %s: %s", self._lease.id, away.orig)
                if time.monotonic() - renewed > self._lease_s:
                    self._reason = LostLease(self._lease.id)
                    return
            else:
                renewed = time.monotonic() if due else renewed

    def _look(self, *, renew_too: bool) -> Status:
        with self._sessions.begin() as session:
            if renew_too:
                renew(session, self._lease, self._lease_s)
            return status_of(session, self._lease)

    def _leave(self) -> None:
        try:
            self._hand_back()
        except LostLease as lost:
            self._reason = lost
        except DBAPIError as away:
            log.warning("job %s is not handed back, its lease must run out: %s", self._lease.id, away.orig)
            self._reason = LostLease(self._lease.id)
        else:
            self._reason = HandedBack(self._lease.id)


def patiently(id: str, write: Callable[[], None]) -> None:
    """Write what must not be lost; wait for a database that is away. Raises OperationalError when it stays away."""
    patience = time.monotonic() + _STORE_FOR_S
    pause = 0.5
    while True:
        try:
            return write()
        except OperationalError as away:
            if time.monotonic() > patience:
                raise
            log.warning("%s waits for the database: %s", id, away.orig)
            time.sleep(pause)
            pause = min(2 * pause, 15.0)
