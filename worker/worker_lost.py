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
from unveil.worker.jobs import TASKS
from unveil.worker.lease import HELD
from unveil.worker.runtime import Runtime, owner_of, runtime

log = logging.getLogger(__name__)


class JobRequest(Request):  # type: ignore[misc]
    """A job's message, in the main process of a worker."""

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        if issubclass(exc_info.type, WorkerLostError):
            try:
                give_up(runtime(), self.worker_pid)
            except DBAPIError as away:
                log.warning("a job whose process died waits for the end of its lease: %s", away.orig)
        return super().on_failure(exc_info, *args, **kwargs)  # puts the message back, so the job may be taken at once


def give_up(tools: Runtime, pid: int) -> None:
    """Queue again what process `pid` of this machine, now dead, had at work for the first time."""
    with tools.sessions.begin() as session:
        for table in TASKS:
            held = table.lease_owner.startswith(owner_of(pid), autoescape=True) & table.status.in_(HELD)
            ended = {"lease_until": func.clock_timestamp()}
            session.execute(update(table).where(held, table.stalls == 0).values(**ended))
    sweeper.give_up_silent_workers(tools.sessions, tools.settings)
