"""What the cells of an evaluation share is computed by one of them, and lost with none."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import func, select, update

from tests.factories import expire, make_evaluation
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Evaluation, Shared
from unveil.worker import cells, jobs, lease, single_flight
from unveil.worker.cells import CellJob
from unveil.worker.lease import CancelRequested, Watch
from unveil.worker.runtime import Runtime

NAME = "controls/0123"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(single_flight, "_LOOK_S", 0.05)
    monkeypatch.setattr(lease, "_LOOK_S", 0.1)


@pytest.fixture
def pair(tools: Runtime, other: Runtime, account: str) -> tuple[CellJob, CellJob]:
    """Two cells of an evaluation in the hands of two workers."""
    _, (first, second) = make_evaluation(tools.sessions, account, ("none", "fr"))
    held = cells.claim(tools, first), cells.claim(other, second)
    assert held[0] is not None
    assert held[1] is not None
    return held[0], held[1]


def once(job: CellJob, make, name: str = NAME) -> bytes:
    """As the science asks for it."""
    with Watch(
        job.tools.sessions, job.lease, lease_s=30, heartbeat_s=10, hand_back=lambda: None, cancel=lambda: None
    ) as watch:
        return job.context(jobs.Reporter(job, watch), 0).shared(name, make)


def never() -> bytes:
    pytest.fail("it was made twice")


def test_one_makes_it_while_the_other_waits(pair):
    begun, made = threading.Event(), []

    def make() -> bytes:
        begun.set()
        made.append(threading.get_ident())
        threading.Event().wait(0.5)
        return b"passed"

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(once, pair[0], make)
        begun.wait(10)
        second = pool.submit(once, pair[1], make)
        assert (first.result(20), second.result(20), len(made)) == (b"passed", b"passed", 1)
    with pair[0].tools.sessions() as session:
        cell = session.get_one(Cell, pair[1].lease.id)
        sealed = session.scalar(select(Shared.sealed))
    assert cell.phase == "waiting for the controls that another cell makes"
    assert b"passed" not in sealed


def test_what_is_there_is_taken_and_other_names_and_evaluations_are_their_own(tools, account, pair):
    assert once(pair[0], lambda: b"one") == once(pair[1], never) == b"one"
    assert once(pair[1], lambda: b"two", name="controls/4567") == b"two"
    _, (id,) = make_evaluation(tools.sessions, account)
    assert once(cells.claim(tools, id), lambda: b"three") == b"three"


@pytest.mark.parametrize("end", ["silent", "failed", "handed back"])
def test_whoever_does_not_finish_frees_it(pair, end):
    first, second = pair
    sessions = first.tools.sessions

    class Stopped(Exception):
        pass

    def stop() -> bytes:
        raise Stopped

    with pytest.raises(Stopped):
        once(first, stop)
    if end == "silent":
        expire(sessions, first.lease.id)
    elif end == "failed":
        with sessions.begin() as session:
            lease.end(session, first.lease, Status.FAILED)
    else:
        jobs.hand_back(first)
    assert once(second, lambda: b"by the heir") == b"by the heir"


def test_the_next_attempt_of_the_one_that_died_goes_on_with_it(tools, other, pair):
    first, _ = pair
    with pytest.raises(ZeroDivisionError):
        once(first, lambda: bytes(1 // 0))
    jobs.hand_back(first)
    assert once(cells.claim(other, first.lease.id), lambda: b"again") == b"again"
    assert once(pair[1], never) == b"again"


def test_whoever_waits_can_be_cancelled(pair):
    first, second = pair
    with pytest.raises(ZeroDivisionError):
        once(first, lambda: bytes(1 // 0))  # and stays at work on something else
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(once, second, never)
        with second.tools.sessions.begin() as session:
            session.execute(update(Cell).where(Cell.id == second.lease.id).values(status=Status.CANCELLING))
        with pytest.raises(CancelRequested):
            waiting.result(10)


def test_a_zombies_late_result_is_dropped_and_the_heirs_is_kept(pair):
    first, second = pair

    def overtaken() -> bytes:
        expire(first.tools.sessions, first.lease.id)
        assert once(second, lambda: b"heir") == b"heir"
        return b"zombie"

    once(first, overtaken)
    assert once(second, never) == b"heir"


def test_it_goes_with_its_evaluation(tools, pair):
    once(pair[0], lambda: b"passed")
    with tools.sessions.begin() as session:
        session.delete(session.get_one(Evaluation, pair[0].evaluation_id))
    with tools.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Shared)) == 0


def test_a_job_without_an_evaluation_makes_its_own(pair):
    alone = replace(pair[0], evaluation_id=None)
    assert once(alone, lambda: b"alone") == b"alone"
    assert once(pair[1], lambda: b"shared") == b"shared"
