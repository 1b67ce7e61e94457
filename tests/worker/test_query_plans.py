"""What workers ask all the time is found by an index, however many jobs have ended."""

from __future__ import annotations

import pytest

from benchmarks import rows
from tests.factories import expire, make_evaluation, make_key_to_train
from unveil.worker import cells, key_training, scheduler, sweeper, worker_lost
from unveil.worker.runtime import Runtime

ENDED = 5_000


@pytest.fixture
def full(tools: Runtime, account: str) -> None:
    """Jobs that wait and jobs at work, one of them of a silent worker, among many that have ended."""
    for _ in range(5):
        _, (held, silent, *_) = make_evaluation(tools.sessions, account, ("fr",) * 10)
        assert cells.claim(tools, held)
        assert cells.claim(tools, silent)
        expire(tools.sessions, silent)
    assert key_training.claim(tools, make_key_to_train(tools.sessions, tools.ring, account))
    tools.blobs.write("checkpoints/cell_gone/network.ckpt", b"")
    rows.fill(tools.settings.database_url, account, ENDED, images=1)


def test_no_big_table_is_read_from_end_to_end(tools, account, full):
    def turn() -> None:
        with tools.sessions() as session:
            assert scheduler.following(session, []) is not None

    for act in (
        turn,
        lambda: worker_lost.give_up(tools, pid=1),
        lambda: sweeper.sweep(tools.sessions, tools.celery, tools.settings),
    ):
        with rows.listening(tools.sessions.kw["bind"]) as heard:
            act()
        assert heard
        assert rows.whole_reads(tools.settings.database_url, heard) == []
