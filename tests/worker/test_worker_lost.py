"""A process that died at work, in its parent's eyes."""

from __future__ import annotations

from dataclasses import replace

from tests.factories import make_evaluation
from unveil.app.db.tables import Cell
from unveil.worker import cells, worker_lost
from unveil.worker.runtime import Runtime, lease_owner_prefix


def get_cell(runtime: Runtime, id: str) -> Cell:
    with runtime.sessions() as session:
        return session.get_one(Cell, id)


def runtime_of_process(runtime: Runtime, pid: int) -> Runtime:
    return replace(runtime, owner=lease_owner_prefix(pid) + "abcd")


def test_what_a_dead_process_had_is_queued_at_once_and_nothing_of_others(runtime, account):
    _, (lost, kept) = make_evaluation(runtime.sessions, account, ("none", "fr"))
    cells.claim(runtime_of_process(runtime, 12), lost)
    cells.claim(runtime_of_process(runtime, 123), kept)
    worker_lost.release_leases_of(runtime, 12)
    assert (get_cell(runtime, lost).status, get_cell(runtime, lost).attempts_without_progress) == ("queued", 1)
    assert (get_cell(runtime, kept).status, get_cell(runtime, kept).attempts_without_progress) == ("running", 0)


def test_the_second_time_in_a_row_its_lease_must_run_out(runtime, account):
    _, (id,) = make_evaluation(runtime.sessions, account)
    for attempt in (1, 2):
        assert cells.claim(runtime_of_process(runtime, 12), id).lease.attempt == attempt
        worker_lost.release_leases_of(runtime, 12)
    assert (get_cell(runtime, id).status, get_cell(runtime, id).attempts_without_progress) == ("running", 1)
