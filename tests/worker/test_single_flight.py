"""What the cells of an evaluation share is computed by one of them, and lost with none."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import func, select, update

from tests.factories import expire_lease, make_evaluation
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Evaluation, EvaluationArtifact
from unveil.worker import cells, jobs, lease, single_flight
from unveil.worker.cells import CellJob
from unveil.worker.lease import CancelRequested, LeaseKeeper
from unveil.worker.runtime import Runtime

NAME = "controls/0123"


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch):
    monkeypatch.setattr(single_flight, "_POLL_INTERVAL_S", 0.05)
    monkeypatch.setattr(lease, "_CHECK_INTERVAL_S", 0.1)


@pytest.fixture
def two_jobs(runtime: Runtime, other_runtime: Runtime, account: str) -> tuple[CellJob, CellJob]:
    """Two cells of an evaluation in the hands of two workers."""
    _, (first, second) = make_evaluation(runtime.sessions, account, ("none", "fr"))
    jobs_claimed = cells.claim(runtime, first), cells.claim(other_runtime, second)
    assert jobs_claimed[0] is not None
    assert jobs_claimed[1] is not None
    return jobs_claimed[0], jobs_claimed[1]


def compute_shared(job: CellJob, compute, name: str = NAME) -> bytes:
    """As the science asks for it."""
    with LeaseKeeper(
        job.runtime.sessions, job.lease, lease_s=30, heartbeat_s=10, release=lambda: None, end=lambda _: None
    ) as lease_keeper:
        return job.run_context(jobs.Reporter(job, lease_keeper), 0).memoize(name, compute)


def fail_if_computed() -> bytes:
    pytest.fail("it was made twice")


def test_one_makes_it_while_the_other_waits(two_jobs):
    has_started, computed_by = threading.Event(), []
    sessions, waiting_id = two_jobs[0].runtime.sessions, two_jobs[1].lease.id

    def read_phase() -> str | None:
        with sessions() as session:
            return session.get_one(Cell, waiting_id).phase

    def make() -> bytes:
        has_started.set()
        computed_by.append(threading.get_ident())
        for _ in range(3000):
            if read_phase() == "waiting for the controls that another cell computes":
                return b"passed"
            threading.Event().wait(0.02)
        pytest.fail("the other cell does not wait")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(compute_shared, two_jobs[0], make)
        has_started.wait()
        second = pool.submit(compute_shared, two_jobs[1], make)
        assert (first.result(), second.result(), len(computed_by)) == (b"passed", b"passed", 1)
    with sessions() as session:
        assert b"passed" not in session.scalar(select(EvaluationArtifact.sealed))


def test_what_is_there_is_taken_and_other_names_and_evaluations_are_their_own(runtime, account, two_jobs):
    assert compute_shared(two_jobs[0], lambda: b"one") == compute_shared(two_jobs[1], fail_if_computed) == b"one"
    assert compute_shared(two_jobs[1], lambda: b"two", name="controls/4567") == b"two"
    _, (id,) = make_evaluation(runtime.sessions, account)
    assert compute_shared(cells.claim(runtime, id), lambda: b"three") == b"three"


@pytest.mark.parametrize("end", ["silent", "failed", "handed back"])
def test_whoever_does_not_finish_frees_it(two_jobs, end):
    first, second = two_jobs
    sessions = first.runtime.sessions

    class Stopped(Exception):
        pass

    def stop() -> bytes:
        raise Stopped

    with pytest.raises(Stopped):
        compute_shared(first, stop)
    if end == "silent":
        expire_lease(sessions, first.lease.id)
    elif end == "failed":
        with sessions.begin() as session:
            lease.end(session, first.lease, Status.FAILED)
    else:
        jobs.release(first)
    assert compute_shared(second, lambda: b"by the heir") == b"by the heir"


def test_the_next_attempt_of_the_one_that_died_goes_on_with_it(runtime, other_runtime, two_jobs):
    first, _ = two_jobs
    with pytest.raises(ZeroDivisionError):
        compute_shared(first, lambda: bytes(1 // 0))
    jobs.release(first)
    assert compute_shared(cells.claim(other_runtime, first.lease.id), lambda: b"again") == b"again"
    assert compute_shared(two_jobs[1], fail_if_computed) == b"again"


def test_whoever_waits_can_be_cancelled(two_jobs):
    first, second = two_jobs
    with pytest.raises(ZeroDivisionError):
        compute_shared(first, lambda: bytes(1 // 0))  # and stays at work on something else
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(compute_shared, second, fail_if_computed)
        with second.runtime.sessions.begin() as session:
            session.execute(update(Cell).where(Cell.id == second.lease.id).values(status=Status.CANCELLING))
        with pytest.raises(CancelRequested):
            waiting.result(10)


def test_a_zombies_late_result_is_dropped_and_the_heirs_is_kept(two_jobs):
    first, second = two_jobs

    def overtaken() -> bytes:
        expire_lease(first.runtime.sessions, first.lease.id)
        assert compute_shared(second, lambda: b"heir") == b"heir"
        return b"zombie"

    compute_shared(first, overtaken)
    assert compute_shared(second, fail_if_computed) == b"heir"


def test_it_goes_with_its_evaluation(runtime, two_jobs):
    compute_shared(two_jobs[0], lambda: b"passed")
    with runtime.sessions.begin() as session:
        session.delete(session.get_one(Evaluation, two_jobs[0].evaluation_id))
    with runtime.sessions() as session:
        assert session.scalar(select(func.count()).select_from(EvaluationArtifact)) == 0


def test_a_job_without_an_evaluation_makes_its_own(two_jobs):
    alone = replace(two_jobs[0], evaluation_id=None)
    assert compute_shared(alone, lambda: b"alone") == b"alone"
    assert compute_shared(two_jobs[1], lambda: b"shared") == b"shared"
