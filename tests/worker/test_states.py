"""Whatever workers, owners and sweepers do in whatever order: only allowed transitions, and every change an event."""

from __future__ import annotations

from contextlib import suppress

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings
from sqlalchemy import select

from app.core.states import ENDED, TRANSITIONS, Status, of_evaluation
from app.db import journal
from app.db.tables import Cell, Evaluation, Event
from tests.factories import expire, make_evaluation
from worker import cells, lease, sweeper
from worker.cells import CellJob
from worker.lease import LostLease
from worker.runtime import Runtime

ACTS = ("claim", "succeed", "fail", "progress", "hand back", "fall silent", "sweep", "cancel")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 1), st.integers(0, 3)), max_size=25))
def test_every_history_keeps_to_the_state_machine(tools, account, acts):
    evaluation_id, ids = make_evaluation(tools.sessions, account, ("none", "fr"))
    orders: list[CellJob] = []  # every claim there ever was: the older ones are zombies
    before = statuses(tools, ids)
    for act, which, whose in acts:
        with suppress(LostLease):
            perform(tools, act, evaluation_id, ids[which], orders, whose)
        after = statuses(tools, ids)
        for old, new in zip(before, after, strict=True):
            assert old == new or new in TRANSITIONS[old], f"{old} became {new} by {act}"
        before = after
        with tools.sessions() as session:
            evaluation = session.get_one(Evaluation, evaluation_id)
            seqs = session.scalars(select(Event.seq).where(Event.evaluation_id == evaluation_id).order_by(Event.seq))
            assert list(seqs) == list(range(1, evaluation.version + 1))
        expected = of_evaluation(after)
        assert (evaluation.status in ENDED) == (expected is not None) == (evaluation.finished_at is not None)
        assert expected is None or evaluation.status == expected


def statuses(tools: Runtime, ids: list[str]) -> list[Status]:
    with tools.sessions() as session:
        return [Status(session.get_one(Cell, id).status) for id in ids]


def perform(tools: Runtime, act: str, evaluation_id: str, id: str, orders: list[CellJob], whose: int) -> None:
    """Raises LostLease, as a zombie does."""
    if act == "claim":
        order = cells.claim(tools, id)
        if order is not None:
            orders.append(order)
        return
    if act in ("fall silent", "sweep"):
        if act == "fall silent":
            expire(tools.sessions, id)
        sweeper.give_up_silent_workers(tools.sessions, tools.settings)
        sweeper.finish_evaluations(tools.sessions)
        return
    with tools.sessions.begin() as session:
        evaluation = journal.lock(session, evaluation_id)
        assert evaluation is not None
        if act == "cancel":
            if evaluation.status not in ENDED:
                journal.cancel(session, evaluation)
            return
        if not orders:
            return
        held = orders[whose % len(orders)].lease
        if act == "succeed":
            lease.end(session, held, Status.SUCCEEDED, result={"verdict": "leaks"})
        elif act == "fail":
            lease.end(session, held, Status.FAILED, error={"code": "attack_failed", "detail": ""})
        elif act == "hand back":
            lease.hand_back(session, held)
        else:
            lease.write(session, held, progress=0.5)
            journal.record(session, evaluation, "progress", {})
            return
        journal.cell_changed(session, evaluation, held.id)
