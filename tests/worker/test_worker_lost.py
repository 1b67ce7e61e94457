"""A process that died at work, in its parent's eyes."""

from __future__ import annotations

from dataclasses import replace

from tests.factories import make_evaluation
from unveil.app.db.tables import Cell
from unveil.worker import cells, worker_lost
from unveil.worker.runtime import Runtime, owner_of


def cell(tools: Runtime, id: str) -> Cell:
    with tools.sessions() as session:
        return session.get_one(Cell, id)


def of_process(tools: Runtime, pid: int) -> Runtime:
    return replace(tools, owner=owner_of(pid) + "abcd")


def test_what_a_dead_process_had_is_queued_at_once_and_nothing_of_others(tools, account):
    _, (lost, kept) = make_evaluation(tools.sessions, account, ("none", "fr"))
    cells.claim(of_process(tools, 12), lost)
    cells.claim(of_process(tools, 123), kept)
    worker_lost.give_up(tools, 12)
    assert (cell(tools, lost).status, cell(tools, lost).stalls) == ("queued", 1)
    assert (cell(tools, kept).status, cell(tools, kept).stalls) == ("running", 0)


def test_the_second_time_in_a_row_its_lease_must_run_out(tools, account):
    _, (id,) = make_evaluation(tools.sessions, account)
    for attempt in (1, 2):
        assert cells.claim(of_process(tools, 12), id).lease.attempt == attempt
        worker_lost.give_up(tools, 12)
    assert (cell(tools, id).status, cell(tools, id).stalls) == ("running", 1)
