"""Accounts take turns at the workers, however many cells one of them has waiting."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from tests.factories import make_account, make_evaluation, make_key_to_train
from tests.trained import register_scheme
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Account, Cell, Key
from unveil.worker import cells, scheduler
from unveil.worker.runtime import Runtime


def next_id(runtime: Runtime, skipped: tuple[str, ...] = ()) -> str | None:
    with runtime.sessions() as session:
        next_row = scheduler.next_job(session, list(skipped))
    return None if next_row is None else next_row[1]


def started_cells(runtime: Runtime) -> list[str]:
    with runtime.sessions() as session:
        return list(session.scalars(select(Cell.id).where(Cell.started_at.is_not(None)).order_by(Cell.started_at)))


@pytest.fixture(autouse=True)
def scheme(monkeypatch):
    register_scheme(monkeypatch)


@pytest.fixture
def quiet_account(runtime: Runtime) -> str:
    return make_account(runtime.sessions, "quiet")


def test_one_cell_behind_many_of_another_account_is_the_second(runtime, account, quiet_account):
    _, many = make_evaluation(runtime.sessions, account, ("none",) * 4)
    _, (one,) = make_evaluation(runtime.sessions, quiet_account)
    for _ in range(5):
        scheduler.run_next_job(runtime)
    scheduler.run_next_job(runtime)  # one ring too many
    assert started_cells(runtime) == [many[0], one, *many[1:]]


def test_who_has_nothing_at_work_comes_before_who_waited_longer(runtime, account, quiet_account):
    _, (first, second) = make_evaluation(runtime.sessions, account, ("none", "none"))
    _, (one,) = make_evaluation(runtime.sessions, quiet_account)
    assert cells.claim(runtime, first) is not None
    with runtime.sessions.begin() as session:
        for served in session.scalars(select(Account)):
            served.last_job_started_at = None
    assert next_id(runtime) == one
    assert cells.claim(runtime, one) is not None
    assert next_id(runtime) == second


def test_keys_come_first_then_what_is_short_then_what_trains(runtime, account):
    evaluation_id, (itn, none) = make_evaluation(runtime.sessions, account, ("itn", "none"))
    key = make_key_to_train(runtime.sessions, runtime.keyring, account, evaluation_id=evaluation_id)
    _, (later,) = make_evaluation(runtime.sessions, account)
    order: list[str] = []
    while (id := next_id(runtime, tuple(order))) is not None:
        order.append(id)
    assert order == [key, none, itn, later]


def test_a_cell_waits_for_its_key_whoevers_turn_it_is(runtime, account):
    key = make_key_to_train(runtime.sessions, runtime.keyring, account)
    _, (waits,) = make_evaluation(runtime.sessions, account, scheme={"name": "tn-shift", "key_id": key})
    assert next_id(runtime) == key
    with runtime.sessions.begin() as session:
        session.get_one(Key, key).status = Status.RUNNING
    assert next_id(runtime) is None
    with runtime.sessions.begin() as session:
        session.get_one(Key, key).status = Status.SUCCEEDED
    assert next_id(runtime) == waits


def test_a_job_that_another_took_meanwhile_is_passed(runtime, other_runtime, account, monkeypatch):
    _, (first, second) = make_evaluation(runtime.sessions, account, ("none", "none"))
    original = scheduler.next_job

    def slow(session, skipped):
        next_row = original(session, skipped)
        if next_row is not None and next_row[1] == first:
            cells.claim(other_runtime, first)
        return next_row

    monkeypatch.setattr(scheduler, "next_job", slow)
    scheduler.run_next_job(runtime)
    with runtime.sessions() as session:
        assert session.get_one(Cell, first).lease_owner == other_runtime.owner
        assert session.get_one(Cell, second).status == Status.SUCCEEDED


def test_what_only_another_version_knows_is_left_to_it_and_others_go_on(runtime, account, quiet_account):
    key = make_key_to_train(runtime.sessions, runtime.keyring, account)
    make_evaluation(runtime.sessions, account, scheme={"name": "later"})
    make_evaluation(runtime.sessions, account, ("later",))
    with runtime.sessions.begin() as session:
        session.get_one(Key, key).scheme = "later"
    _, (one,) = make_evaluation(runtime.sessions, quiet_account)
    for _ in range(2):
        scheduler.run_next_job(runtime)
    assert started_cells(runtime) == [one]
    with runtime.sessions() as session:
        left = [session.get_one(Key, key), *session.scalars(select(Cell).where(Cell.id != one))]
    assert {(job.status, job.attempt) for job in left} == {("queued", 0)}


def test_a_job_that_cannot_be_claimed_keeps_no_other_waiting(runtime, account, quiet_account, caplog):
    key = make_key_to_train(runtime.sessions, runtime.keyring, account)
    _, (one,) = make_evaluation(runtime.sessions, quiet_account)
    with runtime.sessions.begin() as session:
        session.get_one(Key, key).wrapped_key = None
    assert next_id(runtime) == key
    scheduler.run_next_job(runtime)
    assert started_cells(runtime) == [one]
    assert f"{key} cannot be claimed" in caplog.text


def test_a_job_whose_time_slice_ended_waits_behind_what_was_ordered_meanwhile(runtime, account):
    _, (long,) = make_evaluation(runtime.sessions, account, ("itn",))
    _, (short,) = make_evaluation(runtime.sessions, account)
    with runtime.sessions.begin() as session:
        session.get_one(Cell, long).requeued_at = func.clock_timestamp()
    assert next_id(runtime) == short
    assert next_id(runtime, (short,)) == long
