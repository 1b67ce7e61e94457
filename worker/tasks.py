"""Celery tasks. Messages hold no data: jobs are rows, and encryption requests wait encrypted in Redis."""

from __future__ import annotations

import os
from functools import cache

from unveil.app import broker
from unveil.worker.main import celery
from unveil.worker.memory import prefer_as_oom_victim

_JOB_NICE_INCREMENT = 5  # on top of worker.main's: nobody waits for a job as a caller waits for /encrypt


@cache
def _lower_priority() -> None:
    os.nice(_JOB_NICE_INCREMENT)
    prefer_as_oom_victim()


@celery.task(name=broker.RUN_NEXT_JOB, Request="unveil.worker.worker_lost:JobRequest")
def run_next_job() -> None:
    _lower_priority()
    from unveil.worker import scheduler
    from unveil.worker.runtime import get_runtime

    scheduler.run_next_job(get_runtime())


@celery.task(name=broker.HANDLE_REQUEST)
def handle_request(message_id: str) -> None:
    from unveil.worker import shutdown
    from unveil.worker.encryption import handlers
    from unveil.worker.runtime import get_runtime

    with shutdown.in_flight():
        handlers.handle_request(get_runtime(), message_id)
