"""A pool process died with a job at work: its parent, which sees it, ends the lease at once.

Only the first time. A job that has stalled before waits until its lease runs out, so that a minute in which the machine
has too little memory is not taken for poison.
"""

from __future__ import annotations

import logging
from typing import Any

from billiard.exceptions import WorkerLostError
from celery.worker.request import Request
from sqlalchemy import func, update
from sqlalchemy.exc import DBAPIError

from unveil.worker import sweeper
from unveil.worker.jobs import TASK_BY_TABLE
from unveil.worker.lease import LEASED
from unveil.worker.runtime import Runtime, get_runtime, lease_owner_prefix

log = logging.getLogger(__name__)


class JobRequest(Request):  # type: ignore[misc]
    """A job's message, in the main process of a worker."""

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        if issubclass(exc_info.type, WorkerLostError):
            try:
                release_leases_of(get_runtime(), self.worker_pid)
            except DBAPIError as error:
                log.warning("a job whose process died waits for the end of its lease: %s", error.orig)
        return super().on_failure(exc_info, *args, **kwargs)  # puts the message back, so the job may be taken at once


def release_leases_of(runtime: Runtime, pid: int) -> None:
    """Queue again what process `pid` of this machine, now dead, had at work for the first time."""
    with runtime.sessions.begin() as session:
        for table in TASK_BY_TABLE:
            leased = table.lease_owner.startswith(lease_owner_prefix(pid), autoescape=True) & table.status.in_(LEASED)
            expired_values = {"lease_until": func.clock_timestamp()}
            session.execute(update(table).where(leased, table.attempts_without_progress == 0).values(**expired_values))
    sweeper.requeue_expired_leases(runtime.sessions, runtime.settings)
