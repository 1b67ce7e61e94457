"""What a message can ask for. A message holds an id and nothing else; everything is in the row."""

from __future__ import annotations

from app import queue
from worker.celery_app import celery

_JOB = "worker.orphaned:JobRequest"


@celery.task(name=queue.RUN_CELL, Request=_JOB)
def run_cell(id: str) -> None:
    from worker import cells
    from worker.runtime import runtime

    cells.handle(runtime(), id)


@celery.task(name=queue.TRAIN_KEY, Request=_JOB)
def train_key(id: str) -> None:
    from worker import training_keys
    from worker.runtime import runtime

    training_keys.handle(runtime(), id)


@celery.task(name=queue.TRANSFORM)
def transform_images(id: str) -> None:
    from worker import transform
    from worker.runtime import runtime

    transform.handle(runtime(), id)
