"""Who may work on a row."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError

from tests.factories import expire_lease, make_evaluation
from unveil.app.db import session as database_session
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell
from unveil.app.settings import Settings
from unveil.models.core.errors import Cancelled
from unveil.worker import lease, shutdown
from unveil.worker.lease import CancelRequested, Lease, LeaseKeeper, LeaseLost, LeaseReleased, OverBudget
from unveil.worker.runtime import Runtime


@pytest.fixture
def cell_id(runtime: Runtime, account: str) -> str:
    return make_evaluation(runtime.sessions, account)[1][0]


def claim(runtime: Runtime, cell_id: str, owner: str | None = None, seconds: float = 60) -> Lease | None:
    with runtime.sessions.begin() as session:
        return lease.claim(session, Cell, cell_id, owner or runtime.owner, seconds)


def claim_or_fail(runtime: Runtime, cell_id: str) -> Lease:
    row_now = claim(runtime, cell_id)
    assert row_now is not None
    return row_now


def test_a_suspended_worker_does_not_keep_its_rows_locked(
    settings: Settings, runtime: Runtime, cell_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_session, "IDLE_TRANSACTION_TIMEOUT_S", 0.2)
    suspended = database_session.worker_engine(settings)
    row = select(Cell.id).where(Cell.id == cell_id).with_for_update()
    with suspended.connect() as idle:
        idle.execute(row)
        with runtime.sessions.begin() as session:
            assert session.scalar(row) == cell_id, "waits until the other transaction has ended"
        with pytest.raises(DBAPIError):
            idle.execute(row)
    suspended.dispose()


def get_row(runtime: Runtime, cell_id: str) -> Cell:
    with runtime.sessions() as session:
        return session.get_one(Cell, cell_id)


def test_a_queued_row_is_claimed_with_a_lease_and_a_rising_fence(runtime, cell_id):
    claimed_lease = claim_or_fail(runtime, cell_id)
    row_now = get_row(runtime, cell_id)
    assert (row_now.status, row_now.attempt, row_now.lease_owner) == ("running", 1, runtime.owner)
    assert row_now.started_at is not None
    assert (row_now.lease_until - row_now.started_at).total_seconds() == pytest.approx(60, abs=30)
    assert claimed_lease.attempt == 1


def test_of_many_claims_at_once_one_wins(runtime, cell_id):
    start = threading.Barrier(4)  # no more than the pool has connections

    def race(number: int) -> Lease | None:
        start.wait()
        return claim(runtime, cell_id, f"worker/{number}")

    with ThreadPoolExecutor(4) as pool:
        won = [row_now for row_now in pool.map(race, range(4)) if row_now is not None]
    assert len(won) == 1
    assert get_row(runtime, cell_id).lease_owner == won[0].owner


@pytest.mark.parametrize("status", [s for s in Status if s != Status.QUEUED])
def test_a_row_that_does_not_wait_is_not_claimed(runtime, cell_id, status):
    with runtime.sessions.begin() as session:
        session.execute(update(Cell).values(status=status))
    assert claim(runtime, cell_id) is None
    assert claim(runtime, "cell_" + "0" * 32) is None


def test_a_zombie_can_write_nothing_after_its_row_was_given_away(runtime, cell_id):
    zombie = claim_or_fail(runtime, cell_id)
    with runtime.sessions.begin() as session:
        lease.release(session, zombie)
    heir = claim_or_fail(runtime, cell_id)
    assert heir.attempt == zombie.attempt + 1
    writes = (
        lambda session: lease.write(session, zombie, progress=0.9),
        lambda session: lease.renew(session, zombie, 60),
        lambda session: lease.end(session, zombie, Status.SUCCEEDED, result={"by": "zombie"}),
        lambda session: lease.release(session, zombie),
    )
    for attempt in writes:
        with pytest.raises(LeaseLost), runtime.sessions.begin() as session:
            attempt(session)
    row_now = get_row(runtime, cell_id)
    assert (row_now.status, row_now.progress, row_now.result) == ("running", 0, None)
    with runtime.sessions.begin() as session:
        lease.end(session, heir, Status.SUCCEEDED, result={"by": "heir"})
    assert get_row(runtime, cell_id).result == {"by": "heir"}


def test_a_cancelled_row_may_still_finish_or_end_cancelled_but_is_not_queued_again(runtime, cell_id):
    claimed_lease = claim_or_fail(runtime, cell_id)
    with runtime.sessions.begin() as session:
        session.execute(update(Cell).values(status=Status.CANCELLING))
    with runtime.sessions.begin() as session:
        lease.release(session, claimed_lease)
    row_now = get_row(runtime, cell_id)
    assert row_now.status == "cancelled"
    assert row_now.finished_at is not None


# --- the watch --------------------------------------------------------------------------------------------------


def make_lease_keeper(runtime: Runtime, claimed_lease: Lease, **overrides: object) -> LeaseKeeper:
    def release() -> None:
        with runtime.sessions.begin() as session:
            lease.release(session, claimed_lease)

    def end(reason: Cancelled) -> None:
        status = Status.CANCELLED if isinstance(reason, CancelRequested) else Status.FAILED
        with runtime.sessions.begin() as session:
            lease.end(session, claimed_lease, status)

    settings: dict = {"lease_s": 60, "heartbeat_s": 0.05, "release": release, "end": end, **overrides}
    return LeaseKeeper(runtime.sessions, claimed_lease, **settings)


def wait_for_reason(lease_keeper: LeaseKeeper, reason: type[Exception]) -> None:
    """Until the watch has seen why to stop."""
    pause = threading.Event()
    for _ in range(3000):
        try:
            lease_keeper.raise_if_stopped()
        except reason:
            return
        pause.wait(0.02)
    pytest.fail(f"{reason.__name__} did not come")


def test_the_watch_renews_the_lease(runtime, cell_id):
    claimed_lease = claim_or_fail(runtime, cell_id)
    expire_lease(runtime.sessions, cell_id)
    before = get_row(runtime, cell_id).lease_until
    with make_lease_keeper(runtime, claimed_lease):
        pause = threading.Event()
        for _ in range(3000):
            if get_row(runtime, cell_id).lease_until > before:
                break
            pause.wait(0.02)
    assert get_row(runtime, cell_id).lease_until > before


def test_the_watch_sees_that_the_job_was_cancelled(runtime, cell_id):
    claimed_lease = claim_or_fail(runtime, cell_id)
    with make_lease_keeper(runtime, claimed_lease) as lease_keeper:
        lease_keeper.raise_if_stopped()
        with runtime.sessions.begin() as session:
            session.execute(update(Cell).values(status=Status.CANCELLING))
        wait_for_reason(lease_keeper, CancelRequested)
    assert get_row(runtime, cell_id).status == "cancelled"


def test_the_watch_sees_that_the_row_was_given_away(runtime, cell_id):
    claimed_lease = claim_or_fail(runtime, cell_id)
    with make_lease_keeper(runtime, claimed_lease) as lease_keeper:
        with runtime.sessions.begin() as session:
            session.execute(update(Cell).values(attempt=Cell.attempt + 1))
        wait_for_reason(lease_keeper, LeaseLost)


def test_at_a_shutdown_the_row_is_queued_again_at_once_and_counts_no_stall(runtime, cell_id):
    claimed_lease = claim_or_fail(runtime, cell_id)
    with make_lease_keeper(runtime, claimed_lease) as lease_keeper:
        shutdown.requested.set()
        wait_for_reason(lease_keeper, LeaseReleased)
        row_now = get_row(runtime, cell_id)
    assert (row_now.status, row_now.attempts_without_progress, row_now.lease_owner) == ("queued", 0, None)


def test_a_shutdown_neither_waits_for_nor_reports_work_whose_lease_was_lost(runtime, cell_id, monkeypatch):
    left = threading.Event()
    monkeypatch.setattr(lease, "_STOP_GRACE_S", 0.1)
    monkeypatch.setattr(os, "_exit", lambda code: left.set())
    claimed_lease = claim_or_fail(runtime, cell_id)
    with make_lease_keeper(runtime, claimed_lease) as lease_keeper:
        with runtime.sessions.begin() as session:
            session.execute(update(Cell).values(attempt=Cell.attempt + 1))
        wait_for_reason(lease_keeper, LeaseLost)
        shutdown.requested.set()
        assert left.wait(30), "the process stays until the work says something"


def test_without_a_database_the_watch_gives_up_when_the_lease_must_have_ended(runtime, cell_id):
    claimed_lease = claim_or_fail(runtime, cell_id)

    class Away:
        def begin(self):
            from sqlalchemy.exc import OperationalError

            raise OperationalError("", {}, Exception("away"))

    lease_keeper = LeaseKeeper(
        Away(), claimed_lease, lease_s=0.2, heartbeat_s=0.05, release=lambda: None, end=lambda _: None
    )
    with lease_keeper:
        wait_for_reason(lease_keeper, LeaseLost)


@pytest.mark.parametrize(("status", "budget_s"), [("cancelled", 60.0), ("failed", 0.1)])
def test_work_that_stays_silent_after_its_end_costs_its_process_after_the_grace(
    runtime, cell_id, monkeypatch, status, budget_s
):
    left, charges = threading.Event(), list[object]()
    monkeypatch.setattr(lease, "_STOP_GRACE_S", 0.1)
    monkeypatch.setattr(os, "_exit", lambda code: left.set())
    claimed_lease = claim_or_fail(runtime, cell_id)
    with make_lease_keeper(runtime, claimed_lease, budget_s=budget_s, charge=charges.append) as lease_keeper:
        if status == "cancelled":
            with runtime.sessions.begin() as session:
                session.execute(update(Cell).values(status=Status.CANCELLING))
        wait_for_reason(lease_keeper, CancelRequested if status == "cancelled" else OverBudget)
        assert get_row(runtime, cell_id).status == status
        assert left.wait(30), "the process stays until the work says something"
        assert charges, "the account pays for work that goes on after its end"


def test_the_seconds_of_all_attempts_are_added_up(runtime, cell_id):
    for attempt in range(2):
        claimed_lease = replace(claim_or_fail(runtime, cell_id), claimed_at=time.monotonic() - 100)
        with runtime.sessions.begin() as session:
            lease.release(session, claimed_lease)
        assert get_row(runtime, cell_id).seconds_used == pytest.approx(100 * (attempt + 1), abs=50)
