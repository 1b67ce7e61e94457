"""When a pool process dies, its parent notices and expires the leases of its jobs at once.

Only for jobs without earlier failures (attempts_without_progress is 0). Others wait until their lease expires, so that
a minute without enough memory does not use up all their attempts.
"""

from __future__ import annotations

import logging
from typing import Any

from billiard.exceptions import WorkerLostError
from celery.worker.request import Request
from sqlalchemy import func, update
from sqlalchemy.exc import DBAPIError

from unveil.worker import sweeper
from unveil.worker.lease import JOB_TABLES, LEASED
from unveil.worker.runtime import Runtime, get_runtime, lease_owner_prefix

log = logging.getLogger(__name__)


class JobRequest(Request):  # type: ignore[misc]
    """The message of a job, in the main process of a worker."""

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        if issubclass(exc_info.type, WorkerLostError):
            try:
                release_leases_of(get_runtime(), self.worker_pid)
            except DBAPIError as error:
                log.warning("the job of a dead process waits until its lease expires: %s", error.orig)
        return super().on_failure(
            exc_info, *args, **kwargs
        )  # requeues the message, so another worker may claim the job at once


def release_leases_of(runtime: Runtime, pid: int) -> None:
    """Requeue the jobs of process `pid` of this machine, which is dead."""
    with runtime.sessions.begin() as session:
        for table in JOB_TABLES:
            leased = table.lease_owner.startswith(lease_owner_prefix(pid), autoescape=True) & table.status.in_(LEASED)
            expired_values = {"lease_until": func.clock_timestamp()}
            session.execute(update(table).where(leased, table.attempts_without_progress == 0).values(**expired_values))
    sweeper.requeue_expired_leases(runtime.sessions, runtime.settings)
