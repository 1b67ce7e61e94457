"""How evaluations change, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmarks import rows
from tests.factories import make_account, make_evaluation, make_key_to_train
from unveil.app.db.ids import new_id
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Evaluation, Event, Key
from unveil.app.jobs import cancellation, event_log
from unveil.worker.runtime import Runtime

Change = Callable[[Session, Evaluation, str], None]


def cancel(session: Session, evaluation: Evaluation, key_id: str) -> None:
    cancellation.cancel_evaluation(session, evaluation)


def fail_key(session: Session, evaluation: Evaluation, key_id: str) -> None:
    session.get_one(Key, key_id).status = Status.FAILED
    session.flush()
    event_log.on_key_status_changed(session, evaluation, key_id)


def record_change(runtime: Runtime, account: str, cells: int, change: Change) -> tuple[list[Event], int]:
    """The events of a change to an evaluation that trains a key and runs its first cell; the statements it took."""
    key_id = new_id("key")
    evaluation_id, (first, *_) = make_evaluation(
        runtime.sessions, account, ("none",) * cells, scheme={"name": "tn-shift", "key_id": key_id}
    )
    make_key_to_train(runtime.sessions, runtime.keyring, account, evaluation_id=evaluation_id, id=key_id)
    with runtime.sessions.begin() as session:
        session.get_one(Cell, first).status = session.get_one(Evaluation, evaluation_id).status = Status.RUNNING
    with rows.record_statements(runtime.sessions.kw["bind"]) as heard, runtime.sessions.begin() as session:
        change(session, event_log.lock_evaluation(session, evaluation_id), key_id)
    with runtime.sessions() as session:
        of_it = select(Event).where(Event.evaluation_id == evaluation_id).order_by(Event.seq)
        return list(session.scalars(of_it)), len(heard)


@pytest.mark.parametrize("change", [cancel, fail_key])
def test_many_cells_are_changed_in_as_many_statements_as_few(runtime, change):
    account = make_account(runtime.sessions)
    (few, statements), (many, as_many) = (record_change(runtime, account, cells, change) for cells in (3, 60))
    assert len(many) == len(few) + 57
    assert as_many == statements


def test_a_cancel_tells_of_the_evaluation_then_of_its_cells_in_their_order_then_of_its_keys(runtime):
    told, _ = record_change(runtime, make_account(runtime.sessions), 3, cancel)
    assert [event.seq for event in told] == [1, 2, 3, 4, 5]
    assert [(event.type, event.data.get("position"), event.data["status"]) for event in told] == [
        ("status", None, "cancelling"),
        ("cell", 0, "cancelling"),
        ("cell", 1, "cancelled"),
        ("cell", 2, "cancelled"),
        ("progress", None, "cancelled"),
    ]
    assert [event.data["done"] for event in told if event.type == "cell"] == [0, 0, 0]  # cancelled is not done


def test_a_key_that_fails_tells_of_itself_then_of_the_cells_that_waited_for_it(runtime):
    told, _ = record_change(runtime, make_account(runtime.sessions), 3, fail_key)
    assert [(event.seq, event.type, event.data.get("position"), event.data["status"]) for event in told] == [
        (1, "progress", None, "failed"),
        (2, "cell", 1, "failed"),
        (3, "cell", 2, "failed"),
    ]
    assert {event.data["error"]["code"] for event in told if event.type == "cell"} == {"key_unusable"}
