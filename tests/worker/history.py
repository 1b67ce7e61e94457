"""What workers, owners and sweepers may do to an evaluation of two cells, in whatever order: for hypothesis to choose.

After each act: only allowed transitions, every change an event, and the evaluation as its cells are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.factories import expire, make_evaluation
from unveil.app.db.job_states import ENDED, TRANSITIONS, Status, of_evaluation
from unveil.app.db.tables import Cell, Evaluation, Event
from unveil.app.jobs import event_log
from unveil.worker import cells, lease, sweeper
from unveil.worker.lease import Lease, LostLease
from unveil.worker.runtime import Runtime

CELL, CLAIM = st.integers(0, 1), st.integers(0, 3)
ENDS = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)  # the last: a worker that saw the flag


class History(RuleBasedStateMachine):
    runs = 0

    def __init__(self, tools: Runtime, account: str, pool: ThreadPoolExecutor) -> None:
        super().__init__()
        self.tools, self.account, self.pool = tools, account, pool
        self.claims: list[Lease] = []  # every claim there ever was: the older ones are zombies

    @initialize()
    def ordered(self) -> None:
        self.evaluation_id, self.cell_ids = make_evaluation(self.tools.sessions, self.account, ("none", "fr"))
        self.before = dict.fromkeys(self.cell_ids, Status.QUEUED)

    @rule(which=CELL)
    def claim(self, which: int) -> None:
        job = cells.claim(self.tools, self.cell_ids[which])
        if job is not None:
            self.claims.append(job.lease)

    @rule()
    def cancel(self) -> None:
        with self.tools.sessions.begin() as session:
            evaluation = event_log.lock(session, self.evaluation_id)
            if evaluation.status not in ENDED:
                event_log.cancel(session, evaluation)

    @precondition(lambda self: self.claims)
    @rule(whose=CLAIM, how=st.sampled_from(ENDS))
    def finish(self, whose: int, how: Status) -> None:
        held = self.claims[whose % len(self.claims)]
        with suppress(LostLease), self.tools.sessions.begin() as session:
            evaluation = event_log.lock(session, self.evaluation_id)
            if how != Status.CANCELLED or lease.status_of(session, held) == Status.CANCELLING:
                lease.end(session, held, how, result={"verdict": "leaks"})
                event_log.cell_changed(session, evaluation, held.id)

    @precondition(lambda self: self.claims)
    @rule(whose=CLAIM, how=st.sampled_from(ENDS))
    def finish_while_it_is_cancelled(self, whose: int, how: Status) -> None:
        self.at_once(self.cancel, lambda: self.finish(whose, how))

    @precondition(lambda self: self.claims)
    @rule(whose=CLAIM, which=CELL)
    def finish_while_it_is_given_up(self, whose: int, which: int) -> None:
        expire(self.tools.sessions, self.cell_ids[which])
        self.at_once(self.sweep, lambda: self.finish(whose, Status.SUCCEEDED))

    @precondition(lambda self: self.claims)
    @rule(whose=CLAIM)
    def progress(self, whose: int) -> None:
        held = self.claims[whose % len(self.claims)]
        with suppress(LostLease), self.tools.sessions.begin() as session:
            evaluation = event_log.lock(session, self.evaluation_id)
            lease.write(session, held, progress=0.5)
            event_log.record(session, evaluation, "progress", {})

    @precondition(lambda self: self.claims)
    @rule(whose=CLAIM)
    def hand_back(self, whose: int) -> None:
        held = self.claims[whose % len(self.claims)]
        with suppress(LostLease), self.tools.sessions.begin() as session:
            evaluation = event_log.lock(session, self.evaluation_id)
            lease.hand_back(session, held)
            event_log.cell_changed(session, evaluation, held.id)

    @rule(which=CELL)
    def fall_silent(self, which: int) -> None:
        expire(self.tools.sessions, self.cell_ids[which])
        self.sweep()

    @rule()
    def sweep(self) -> None:
        sweeper.give_up_silent_workers(self.tools.sessions, self.tools.settings)
        sweeper.finish_evaluations(self.tools.sessions)

    def at_once(self, *acts: Callable[[], None]) -> None:
        """On connections of their own, begun in the same moment; PostgreSQL decides who is first, statement for
        statement."""
        start = threading.Barrier(len(acts))

        def begin(act: Callable[[], None]) -> None:
            start.wait()
            act()

        for done in [self.pool.submit(begin, act) for act in acts]:
            done.result()

    @invariant()
    def everything_is_told_and_allowed(self) -> None:
        of_it = Event.evaluation_id == self.evaluation_id
        with self.tools.sessions() as session:
            after = self.statuses(session)
            evaluation = session.get_one(Evaluation, self.evaluation_id)
            events = session.execute(select(Event.seq, Event.type, Event.data).where(of_it).order_by(Event.seq)).all()
        for id, new in after.items():
            assert new in reachable(self.before[id]), f"{self.before[id]} became {new}"
        self.before = after
        assert [event.seq for event in events] == list(range(1, evaluation.version + 1))
        ends = [event.data["cell"] for event in events if event.type == "cell" and event.data["status"] in ENDED]
        assert sorted(ends) == sorted(id for id, status in after.items() if status in ENDED), "each ends once"
        expected = of_evaluation(list(after.values()))
        assert (evaluation.status in ENDED) == (expected is not None) == (evaluation.finished_at is not None)
        assert expected is None or evaluation.status == expected

    def statuses(self, session: Session) -> dict[str, Status]:
        cells = session.execute(select(Cell.id, Cell.status).where(Cell.evaluation_id == self.evaluation_id))
        return {cell.id: Status(cell.status) for cell in cells}

    def teardown(self) -> None:
        type(self).runs += 1


def reachable(status: Status) -> set[Status]:
    """Where two acts at once may take it."""
    once = {status, *TRANSITIONS[status]}
    return once.union(*(TRANSITIONS[other] for other in once))


def run_histories(tools: Runtime, account: str, count: int, acts: int) -> int:
    """Let so many happen, of at most so many acts each; how many did."""
    chosen = settings(
        max_examples=count, stateful_step_count=acts, deadline=None, derandomize=True, database=None,
        phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    before = History.runs
    with ThreadPoolExecutor(2) as pool:
        run_state_machine_as_test(lambda: History(tools, account, pool), settings=chosen)
    return History.runs - before
