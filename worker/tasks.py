"""What a message can ask for. A message holds an id and nothing else; everything is in the row."""

from __future__ import annotations

import os
from functools import cache

from unveil.app import broker
from unveil.worker.main import celery

_JOB_REQUEST_CLASS = "unveil.worker.worker_lost:JobRequest"


@cache
def _lower_priority() -> None:
    """Nobody waits for a job as one does for images: this process lets encryption go first, from now on."""
    os.nice(5)


@celery.task(name=broker.RUN_CELL, Request=_JOB_REQUEST_CLASS)
def run_cell(id: str) -> None:  # noqa: ARG001 - whose turn it is, the rows tell
    _run_next_job()


@celery.task(name=broker.TRAIN_KEY, Request=_JOB_REQUEST_CLASS)
def train_key(id: str) -> None:  # noqa: ARG001
    _run_next_job()


def _run_next_job() -> None:
    _lower_priority()
    from unveil.worker import scheduler
    from unveil.worker.runtime import get_runtime

    scheduler.run_next_job(get_runtime())


@celery.task(name=broker.TRANSFORM)
def transform_images(id: str) -> None:
    from unveil.worker import shutdown
    from unveil.worker.encryption import handlers
    from unveil.worker.runtime import get_runtime

    with shutdown.in_flight():
        handlers.handle_request(get_runtime(), id)
