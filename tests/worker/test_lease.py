"""Who may work on a row."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from tests.factories import expire, make_evaluation
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell
from unveil.worker import lease, shutdown
from unveil.worker.lease import CancelRequested, HandedBack, Lease, LostLease, Watch
from unveil.worker.runtime import Runtime


@pytest.fixture
def cell_id(tools: Runtime, account: str) -> str:
    return make_evaluation(tools.sessions, account)[1][0]


def claim(tools: Runtime, cell_id: str, owner: str | None = None, seconds: float = 60) -> Lease | None:
    with tools.sessions.begin() as session:
        return lease.claim(session, Cell, cell_id, owner or tools.owner, seconds)


def taken(tools: Runtime, cell_id: str) -> Lease:
    found = claim(tools, cell_id)
    assert found is not None
    return found


def row(tools: Runtime, cell_id: str) -> Cell:
    with tools.sessions() as session:
        return session.get_one(Cell, cell_id)


def test_a_queued_row_is_claimed_with_a_lease_and_a_rising_fence(tools, cell_id):
    held = taken(tools, cell_id)
    found = row(tools, cell_id)
    assert (found.status, found.attempt, found.lease_owner) == ("running", 1, tools.owner)
    assert found.started_at is not None
    assert (found.lease_until - found.started_at).total_seconds() == pytest.approx(60, abs=1)
    assert held.attempt == 1


def test_of_many_claims_at_once_one_wins(tools, cell_id):
    start = threading.Barrier(4)  # no more than the pool has connections

    def race(number: int) -> Lease | None:
        start.wait()
        return claim(tools, cell_id, f"worker/{number}")

    with ThreadPoolExecutor(4) as pool:
        won = [found for found in pool.map(race, range(4)) if found is not None]
    assert len(won) == 1
    assert row(tools, cell_id).lease_owner == won[0].owner


@pytest.mark.parametrize("status", [s for s in Status if s != Status.QUEUED])
def test_a_row_that_does_not_wait_is_not_claimed(tools, cell_id, status):
    with tools.sessions.begin() as session:
        session.execute(update(Cell).values(status=status))
    assert claim(tools, cell_id) is None
    assert claim(tools, "cell_" + "0" * 32) is None


def test_a_zombie_can_write_nothing_after_its_row_was_given_away(tools, cell_id):
    zombie = taken(tools, cell_id)
    with tools.sessions.begin() as session:
        lease.hand_back(session, zombie)
    heir = taken(tools, cell_id)
    assert heir.attempt == zombie.attempt + 1
    writes = (
        lambda session: lease.write(session, zombie, progress=0.9),
        lambda session: lease.renew(session, zombie, 60),
        lambda session: lease.end(session, zombie, Status.SUCCEEDED, result={"by": "zombie"}),
        lambda session: lease.hand_back(session, zombie),
    )
    for attempt in writes:
        with pytest.raises(LostLease), tools.sessions.begin() as session:
            attempt(session)
    found = row(tools, cell_id)
    assert (found.status, found.progress, found.result) == ("running", 0, None)
    with tools.sessions.begin() as session:
        lease.end(session, heir, Status.SUCCEEDED, result={"by": "heir"})
    assert row(tools, cell_id).result == {"by": "heir"}


def test_a_cancelled_row_may_still_finish_or_end_cancelled_but_is_not_queued_again(tools, cell_id):
    held = taken(tools, cell_id)
    with tools.sessions.begin() as session:
        session.execute(update(Cell).values(status=Status.CANCELLING))
    with tools.sessions.begin() as session:
        lease.hand_back(session, held)
    found = row(tools, cell_id)
    assert found.status == "cancelled"
    assert found.finished_at is not None


# --- the watch --------------------------------------------------------------------------------------------------


def watch(tools: Runtime, held: Lease, **changed: object) -> Watch:
    def hand_back() -> None:
        with tools.sessions.begin() as session:
            lease.hand_back(session, held)

    def cancel() -> None:
        with tools.sessions.begin() as session:
            lease.end(session, held, Status.CANCELLED)

    settings: dict = {"lease_s": 60, "heartbeat_s": 0.05, "hand_back": hand_back, "cancel": cancel, **changed}
    return Watch(tools.sessions, held, **settings)


def wait_for(watch: Watch, reason: type[Exception]) -> None:
    """Until the watch has seen why to stop; the suite's timeout is the limit."""
    pause = threading.Event()
    for _ in range(400):
        try:
            watch.check()
        except reason:
            return
        pause.wait(0.02)
    pytest.fail(f"{reason.__name__} did not come")


def test_the_watch_renews_the_lease(tools, cell_id):
    held = taken(tools, cell_id)
    expire(tools.sessions, cell_id)
    before = row(tools, cell_id).lease_until
    with watch(tools, held):
        pause = threading.Event()
        for _ in range(200):
            if row(tools, cell_id).lease_until > before:
                break
            pause.wait(0.02)
    assert row(tools, cell_id).lease_until > before


def test_the_watch_sees_that_the_job_was_cancelled(tools, cell_id):
    held = taken(tools, cell_id)
    with watch(tools, held) as looking:
        looking.check()
        with tools.sessions.begin() as session:
            session.execute(update(Cell).values(status=Status.CANCELLING))
        wait_for(looking, CancelRequested)
    assert row(tools, cell_id).status == "cancelled"


def test_the_watch_sees_that_the_row_was_given_away(tools, cell_id):
    held = taken(tools, cell_id)
    with watch(tools, held) as looking:
        with tools.sessions.begin() as session:
            session.execute(update(Cell).values(attempt=Cell.attempt + 1))
        wait_for(looking, LostLease)


def test_at_a_shutdown_the_row_is_queued_again_at_once_and_counts_no_stall(tools, cell_id):
    held = taken(tools, cell_id)
    with watch(tools, held) as looking:
        shutdown.requested.set()
        wait_for(looking, HandedBack)
        found = row(tools, cell_id)
    assert (found.status, found.stalls, found.lease_owner, found.sent_at) == ("queued", 0, None, None)


def test_a_shutdown_does_not_wait_for_work_that_is_no_longer_ours_and_says_nothing(tools, cell_id, monkeypatch):
    left = threading.Event()
    monkeypatch.setattr(lease, "_GRACE_S", 0.1)
    monkeypatch.setattr(os, "_exit", lambda code: left.set())
    held = taken(tools, cell_id)
    with watch(tools, held) as looking:
        with tools.sessions.begin() as session:
            session.execute(update(Cell).values(attempt=Cell.attempt + 1))
        wait_for(looking, LostLease)
        shutdown.requested.set()
        assert left.wait(30), "the process stays until the work says something"


def test_without_a_database_the_watch_gives_up_when_the_lease_must_have_ended(tools, cell_id):
    held = taken(tools, cell_id)

    class Away:
        def begin(self):
            from sqlalchemy.exc import OperationalError

            raise OperationalError("", {}, Exception("away"))

    looking = Watch(Away(), held, lease_s=0.2, heartbeat_s=0.05, hand_back=lambda: None, cancel=lambda: None)
    with looking:
        wait_for(looking, LostLease)
