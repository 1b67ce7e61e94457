"""What a message can ask for. A message holds an id and nothing else; everything is in the row."""

from __future__ import annotations

import os
from functools import cache

from app import queue
from worker.celery_app import celery

_JOB = "worker.orphaned:JobRequest"


@cache
def _behind_requests() -> None:
    """Nobody waits for a job as one does for images: this process lets encryption go first, from now on."""
    os.nice(5)


@celery.task(name=queue.RUN_CELL, Request=_JOB)
def run_cell(id: str) -> None:  # noqa: ARG001 - whose turn it is, the rows tell
    _next_job()


@celery.task(name=queue.TRAIN_KEY, Request=_JOB)
def train_key(id: str) -> None:  # noqa: ARG001
    _next_job()


def _next_job() -> None:
    _behind_requests()
    from worker import turns
    from worker.runtime import runtime

    turns.handle(runtime())


@celery.task(name=queue.TRANSFORM)
def transform_images(id: str) -> None:
    from worker import shutdown, transform
    from worker.runtime import runtime

    with shutdown.working():
        transform.handle(runtime(), id)
