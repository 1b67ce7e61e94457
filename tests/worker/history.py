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

from tests.factories import expire_lease, make_evaluation
from unveil.app.db.job_states import TERMINAL, TRANSITIONS, Status, aggregate_status
from unveil.app.db.tables import Cell, Evaluation, Event
from unveil.app.jobs import cancellation, event_log
from unveil.worker import cells, lease, sweeper
from unveil.worker.lease import Lease, LeaseLost
from unveil.worker.runtime import Runtime

CELL, CLAIM = st.integers(0, 1), st.integers(0, 3)
FINAL_STATUSES = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)  # the last: a worker that saw the flag


class EvaluationStateMachine(RuleBasedStateMachine):
    runs = 0

    def __init__(self, runtime: Runtime, account: str, pool: ThreadPoolExecutor) -> None:
        super().__init__()
        self.runtime, self.account, self.pool = runtime, account, pool
        self.claims: list[Lease] = []  # every claim there ever was: the older ones are zombies

    @initialize()
    def ordered(self) -> None:
        self.evaluation_id, self.cell_ids = make_evaluation(self.runtime.sessions, self.account, ("none", "fr"))
        self.previous_statuses = dict.fromkeys(self.cell_ids, Status.QUEUED)

    @rule(cell_index=CELL)
    def claim(self, cell_index: int) -> None:
        job = cells.claim(self.runtime, self.cell_ids[cell_index])
        if job is not None:
            self.claims.append(job.lease)

    @rule()
    def cancel(self) -> None:
        with self.runtime.sessions.begin() as session:
            evaluation = event_log.lock_evaluation(session, self.evaluation_id)
            if evaluation.status not in TERMINAL:
                cancellation.cancel_evaluation(session, evaluation)

    @precondition(lambda self: self.claims)
    @rule(claim_index=CLAIM, status=st.sampled_from(FINAL_STATUSES))
    def finish(self, claim_index: int, status: Status) -> None:
        claimed_lease = self.claims[claim_index % len(self.claims)]
        with suppress(LeaseLost), self.runtime.sessions.begin() as session:
            evaluation = event_log.lock_evaluation(session, self.evaluation_id)
            if status != Status.CANCELLED or lease.read_status(session, claimed_lease) == Status.CANCELLING:
                lease.end(session, claimed_lease, status, result={"verdict": "leaks"})
                event_log.on_cell_status_changed(session, evaluation, claimed_lease.id)

    @precondition(lambda self: self.claims)
    @rule(claim_index=CLAIM, status=st.sampled_from(FINAL_STATUSES))
    def finish_while_cancelled(self, claim_index: int, status: Status) -> None:
        self.run_concurrently(self.cancel, lambda: self.finish(claim_index, status))

    @precondition(lambda self: self.claims)
    @rule(claim_index=CLAIM, cell_index=CELL)
    def finish_while_requeued(self, claim_index: int, cell_index: int) -> None:
        expire_lease(self.runtime.sessions, self.cell_ids[cell_index])
        self.run_concurrently(self.sweep, lambda: self.finish(claim_index, Status.SUCCEEDED))

    @precondition(lambda self: self.claims)
    @rule(claim_index=CLAIM)
    def progress(self, claim_index: int) -> None:
        claimed_lease = self.claims[claim_index % len(self.claims)]
        with suppress(LeaseLost), self.runtime.sessions.begin() as session:
            evaluation = event_log.lock_evaluation(session, self.evaluation_id)
            lease.write(session, claimed_lease, progress=0.5)
            event_log.append_events(session, evaluation, "progress", {})

    @precondition(lambda self: self.claims)
    @rule(claim_index=CLAIM)
    def release(self, claim_index: int) -> None:
        claimed_lease = self.claims[claim_index % len(self.claims)]
        with suppress(LeaseLost), self.runtime.sessions.begin() as session:
            evaluation = event_log.lock_evaluation(session, self.evaluation_id)
            lease.release(session, claimed_lease)
            event_log.on_cell_status_changed(session, evaluation, claimed_lease.id)

    @rule(cell_index=CELL)
    def expire_lease(self, cell_index: int) -> None:
        expire_lease(self.runtime.sessions, self.cell_ids[cell_index])
        self.sweep()

    @rule()
    def sweep(self) -> None:
        sweeper.requeue_expired_leases(self.runtime.sessions, self.runtime.settings)
        sweeper.finish_evaluations(self.runtime.sessions)

    def run_concurrently(self, *actions: Callable[[], None]) -> None:
        """On connections of their own, begun in the same moment; PostgreSQL decides who is first, statement for
        statement."""
        start = threading.Barrier(len(actions))

        def begin(action: Callable[[], None]) -> None:
            start.wait()
            action()

        for done in [self.pool.submit(begin, action) for action in actions]:
            done.result()

    @invariant()
    def every_change_is_allowed_and_recorded(self) -> None:
        of_it = Event.evaluation_id == self.evaluation_id
        with self.runtime.sessions() as session:
            after = self.statuses(session)
            evaluation = session.get_one(Evaluation, self.evaluation_id)
            events = session.execute(select(Event.seq, Event.type, Event.data).where(of_it).order_by(Event.seq)).all()
        for id, new in after.items():
            assert new in reachable(self.previous_statuses[id]), f"{self.previous_statuses[id]} became {new}"
        self.previous_statuses = after
        assert [event.seq for event in events] == list(range(1, evaluation.event_seq + 1))
        ends = [event.data["cell"] for event in events if event.type == "cell" and event.data["status"] in TERMINAL]
        assert sorted(ends) == sorted(id for id, status in after.items() if status in TERMINAL), "each ends once"
        expected = aggregate_status(list(after.values()))
        assert (evaluation.status in TERMINAL) == (expected is not None) == (evaluation.finished_at is not None)
        assert expected is None or evaluation.status == expected

    def statuses(self, session: Session) -> dict[str, Status]:
        cells = session.execute(select(Cell.id, Cell.status).where(Cell.evaluation_id == self.evaluation_id))
        return {cell.id: Status(cell.status) for cell in cells}

    def teardown(self) -> None:
        type(self).runs += 1


def reachable(status: Status) -> set[Status]:
    """Where two acts at once may take it."""
    once = {status, *TRANSITIONS[status]}
    return once.union(*(TRANSITIONS[successor] for successor in once))


def run_histories(runtime: Runtime, account: str, count: int, max_steps: int) -> int:
    """Let so many happen, of at most so many acts each; how many did."""
    hypothesis_settings = settings(
        max_examples=count, stateful_step_count=max_steps, deadline=None, derandomize=True, database=None,
        phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    runs_before = EvaluationStateMachine.runs
    with ThreadPoolExecutor(2) as pool:
        run_state_machine_as_test(lambda: EvaluationStateMachine(runtime, account, pool), settings=hypothesis_settings)
    return EvaluationStateMachine.runs - runs_before
