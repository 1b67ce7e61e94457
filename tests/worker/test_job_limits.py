"""Time slices, budgets and the bill of an account."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace

import pytest
from sqlalchemy import select, update

from benchmarks.chaos import images
from tests.factories import make_evaluation
from tests.jobs import run_cell
from tests.worker.test_cells import get_cell, get_evaluation, replace_run_cell
from unveil.app import broker
from unveil.app.db.job_states import Status
from unveil.app.db.tables import AccountUsage, Cell, Curve, Sample
from unveil.app.settings import Settings
from unveil.models.core.errors import DeadlineReached
from unveil.worker import cells, lease, sweeper
from unveil.worker.runtime import Runtime


@pytest.fixture
def settings(settings: Settings) -> Settings:
    images.write_dataset(settings.data_dir)
    return settings.model_copy(update={"heartbeat_interval_s": 0.05})


def with_settings(runtime: Runtime, **values: float) -> Runtime:
    return replace(runtime, settings=runtime.settings.model_copy(update=values))


def outcome_of(runtime: Runtime, id: str) -> dict:
    """All that a cell stored but what depends on the clock."""
    cell = get_cell(runtime, id)
    assert cell.status == "succeeded", cell.error
    with runtime.sessions() as session:
        samples = session.scalars(select(Sample).where(Sample.cell_id == id).order_by(Sample.index)).all()
        curves = session.scalars(select(Curve).where(Curve.cell_id == id)).all()
    result = dict(cell.result)
    del result["seconds"], result["evidence"]["effort"]["seconds"]
    return {
        "result": result,
        "samples": [(sample.index, sample.reconstructed) for sample in samples],
        "curves": {curve.name: curve.points for curve in curves if not curve.name.endswith("images_per_second")},
    }


def test_a_training_in_time_slices_ends_in_the_same_bits(runtime, account):
    order = {"settings": {"dataset": images.SMALL_DATASET}, "attacks": ("itn",)}
    _, (whole,) = make_evaluation(runtime.sessions, account, **order)
    evaluation_id, (sliced,) = make_evaluation(runtime.sessions, account, **order)
    with runtime.sessions.begin() as session:
        session.execute(update(Cell).values(attack={"name": "itn", "epochs": 4}))
    run_cell(runtime, whole)
    brief, slices = with_settings(runtime, time_slice_s=1e-6), 0  # one step each
    while get_cell(runtime, sliced).status == "queued":
        assert slices < 50
        run_cell(brief, sliced)
        slices += 1
    assert slices > 3
    row = get_cell(runtime, sliced)
    assert (row.attempt, row.attempts_without_progress) == (slices, 0)
    assert row.requeued_at is not None
    assert outcome_of(runtime, sliced) == outcome_of(runtime, whole)
    assert get_evaluation(runtime, evaluation_id).status == "succeeded"


def test_the_end_of_a_slice_queues_the_job_and_wakes_a_worker(runtime, account, monkeypatch):
    def run(context):
        assert context.deadline - time.monotonic() == pytest.approx(900, abs=60)
        raise DeadlineReached

    evaluation_id, (id,) = make_evaluation(runtime.sessions, account)
    replace_run_cell(monkeypatch, run)
    messages = broker.count_job_messages(runtime.celery)
    run_cell(runtime, id)
    row = get_cell(runtime, id)
    assert (row.status, row.lease_owner, row.checkpoint_wrapped_key is None) == ("queued", None, False)
    assert broker.count_job_messages(runtime.celery) == messages + 1
    assert get_evaluation(runtime, evaluation_id).status == "running"


def test_a_slice_of_a_cancelled_job_ends_it(runtime, account, monkeypatch):
    def run(context):
        with runtime.sessions.begin() as session:
            session.execute(update(Cell).values(status=Status.CANCELLING))
        raise DeadlineReached

    monkeypatch.setattr(lease, "_CHECK_INTERVAL_S", 60.0)
    _, (id,) = make_evaluation(runtime.sessions, account)
    replace_run_cell(monkeypatch, run)
    run_cell(with_settings(runtime, heartbeat_interval_s=60.0), id)
    assert get_cell(runtime, id).status == "cancelled"


def test_a_job_over_the_budget_of_its_profile_fails_with_both_numbers(runtime, account, monkeypatch):
    def run(context):
        while True:
            context.report(0.5, "at work")
            threading.Event().wait(0.01)

    evaluation_id, (id,) = make_evaluation(runtime.sessions, account)
    with runtime.sessions.begin() as session:  # of an earlier slice
        session.execute(update(Cell).where(Cell.id == id).values(seconds_used=99.8))
    replace_run_cell(monkeypatch, run)
    run_cell(with_settings(runtime, budget_smoke_s=100.0, budget_quick_s=math.inf), id)
    row = get_cell(runtime, id)
    assert (row.status, row.error["code"]) == ("failed", "over_budget")
    assert "used 100 s; a job of profile smoke may use 100 s" in row.error["detail"]
    assert row.checkpoint_wrapped_key is None
    assert get_evaluation(runtime, evaluation_id).status == "failed"


def test_cancelled_work_counts_against_its_account(runtime, account, monkeypatch):
    def run(context):
        started_at = time.process_time()
        while time.process_time() < started_at + 0.3:
            pass
        with runtime.sessions.begin() as session:
            session.execute(update(Cell).values(status=Status.CANCELLING))
        while True:
            context.report(0.5, "at work")
            threading.Event().wait(0.01)

    _, (id,) = make_evaluation(runtime.sessions, account)
    replace_run_cell(monkeypatch, run)
    for status in (Status.QUEUED, Status.QUEUED):  # the seconds add up
        with runtime.sessions.begin() as session:
            session.execute(update(Cell).values(status=status, finished_at=None))
        run_cell(runtime, id)
        assert get_cell(runtime, id).status == "cancelled"
    with runtime.sessions() as session:
        used = session.execute(select(AccountUsage.account_id, AccountUsage.core_seconds)).all()
    assert {account_id for account_id, _ in used} == {account}
    assert sum(core_seconds for _, core_seconds in used) > 0.6


def test_a_crash_loses_no_more_than_a_heartbeat_of_the_time_used(runtime, account, monkeypatch):
    _, (id,) = make_evaluation(runtime.sessions, account)
    job = cells.claim(runtime, id)
    assert job is not None
    with runtime.sessions.begin() as session:
        lease.renew(session, replace(job.lease, claimed_at=time.monotonic() - 50), -1.0)
    sweeper.requeue_expired_leases(runtime.sessions, runtime.settings)
    row = get_cell(runtime, id)
    assert row.status == "queued"
    assert row.seconds_used == pytest.approx(50, abs=25)
