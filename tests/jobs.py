"""Run one particular job, where a test does not leave the choice to the scheduler."""

from __future__ import annotations

from unveil.worker import cells, jobs, key_training
from unveil.worker.runtime import Runtime


def run_cell(runtime: Runtime, id: str) -> None:
    jobs.run_job(runtime, id, cells.claim)


def train_key(runtime: Runtime, id: str) -> None:
    jobs.run_job(runtime, id, key_training.claim)
