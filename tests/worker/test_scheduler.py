"""Accounts take turns at the workers, however many cells one of them has waiting."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from tests.factories import make_account, make_evaluation, make_key_to_train
from tests.trained import teach
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Account, Cell, Key
from unveil.worker import cells, scheduler
from unveil.worker.runtime import Runtime


def following(tools: Runtime, passed: tuple[str, ...] = ()) -> str | None:
    with tools.sessions() as session:
        found = scheduler.following(session, list(passed))
    return None if found is None else found[1]


def begun(tools: Runtime) -> list[str]:
    with tools.sessions() as session:
        return list(session.scalars(select(Cell.id).where(Cell.started_at.is_not(None)).order_by(Cell.started_at)))


@pytest.fixture(autouse=True)
def scheme(monkeypatch):
    teach(monkeypatch)


@pytest.fixture
def quiet(tools: Runtime) -> str:
    return make_account(tools.sessions, "quiet")


def test_one_cell_behind_many_of_another_account_is_the_second(tools, account, quiet):
    _, many = make_evaluation(tools.sessions, account, ("none",) * 4)
    _, (one,) = make_evaluation(tools.sessions, quiet)
    for _ in range(5):
        scheduler.handle(tools)
    scheduler.handle(tools)  # one ring too many
    assert begun(tools) == [many[0], one, *many[1:]]


def test_who_has_nothing_at_work_comes_before_who_waited_longer(tools, account, quiet):
    _, (first, second) = make_evaluation(tools.sessions, account, ("none", "none"))
    _, (one,) = make_evaluation(tools.sessions, quiet)
    assert cells.claim(tools, first) is not None
    with tools.sessions.begin() as session:
        for served in session.scalars(select(Account)):
            served.served_at = None
    assert following(tools) == one
    assert cells.claim(tools, one) is not None
    assert following(tools) == second


def test_keys_come_first_then_what_is_short_then_what_trains(tools, account):
    evaluation_id, (itn, none) = make_evaluation(tools.sessions, account, ("itn", "none"))
    key = make_key_to_train(tools.sessions, tools.ring, account, evaluation_id=evaluation_id)
    _, (later,) = make_evaluation(tools.sessions, account)
    order: list[str] = []
    while (id := following(tools, tuple(order))) is not None:
        order.append(id)
    assert order == [key, none, itn, later]


def test_a_cell_waits_for_its_key_whoevers_turn_it_is(tools, account):
    key = make_key_to_train(tools.sessions, tools.ring, account)
    _, (waits,) = make_evaluation(tools.sessions, account, scheme={"name": "tn-shift", "key_id": key})
    assert following(tools) == key
    with tools.sessions.begin() as session:
        session.get_one(Key, key).status = Status.RUNNING
    assert following(tools) is None
    with tools.sessions.begin() as session:
        session.get_one(Key, key).status = Status.SUCCEEDED
    assert following(tools) == waits


def test_a_job_that_another_took_meanwhile_is_passed(tools, other, account, monkeypatch):
    _, (first, second) = make_evaluation(tools.sessions, account, ("none", "none"))
    look = scheduler.following

    def slow(session, passed):
        found = look(session, passed)
        if found is not None and found[1] == first:
            cells.claim(other, first)
        return found

    monkeypatch.setattr(scheduler, "following", slow)
    scheduler.handle(tools)
    with tools.sessions() as session:
        assert session.get_one(Cell, first).lease_owner == other.owner
        assert session.get_one(Cell, second).status == Status.SUCCEEDED


def test_what_only_another_version_knows_is_left_to_it_and_others_go_on(tools, account, quiet):
    key = make_key_to_train(tools.sessions, tools.ring, account)
    make_evaluation(tools.sessions, account, scheme={"name": "later"})
    make_evaluation(tools.sessions, account, ("later",))
    with tools.sessions.begin() as session:
        session.get_one(Key, key).scheme = "later"
    _, (one,) = make_evaluation(tools.sessions, quiet)
    for _ in range(2):
        scheduler.handle(tools)
    assert begun(tools) == [one]
    with tools.sessions() as session:
        left = [session.get_one(Key, key), *session.scalars(select(Cell).where(Cell.id != one))]
    assert {(job.status, job.attempt) for job in left} == {("queued", 0)}


def test_a_job_that_cannot_be_claimed_keeps_no_other_waiting(tools, account, quiet, caplog):
    key = make_key_to_train(tools.sessions, tools.ring, account)
    _, (one,) = make_evaluation(tools.sessions, quiet)
    with tools.sessions.begin() as session:
        session.get_one(Key, key).sealed = None
    assert following(tools) == key
    scheduler.handle(tools)
    assert begun(tools) == [one]
    assert f"{key} cannot be claimed" in caplog.text
