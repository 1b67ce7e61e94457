"""What workers ask all the time is found by an index, however many jobs have ended."""

from __future__ import annotations

import pytest

from benchmarks import rows
from tests.factories import expire_lease, make_evaluation, make_key_to_train
from unveil.worker import cells, key_training, scheduler, sweeper, worker_lost
from unveil.worker.runtime import Runtime

ENDED_JOBS = 5_000


@pytest.fixture
def busy_queue(runtime: Runtime, account: str) -> None:
    """Jobs that wait and jobs at work, one of them of a silent worker, among many that have ended."""
    for _ in range(5):
        _, (leased, silent, *_) = make_evaluation(runtime.sessions, account, ("fr",) * 10)
        assert cells.claim(runtime, leased)
        assert cells.claim(runtime, silent)
        expire_lease(runtime.sessions, silent)
    assert key_training.claim(runtime, make_key_to_train(runtime.sessions, runtime.keyring, account))
    runtime.blobs.write("checkpoints/cell_gone/network.ckpt", b"")
    rows.insert_evaluations(runtime.settings.database_url, account, ENDED_JOBS, images=1)


def test_no_big_table_is_read_from_end_to_end(runtime, account, busy_queue):
    def choose_next_job() -> None:
        with runtime.sessions() as session:
            assert scheduler.next_job(session, []) is not None

    for action in (
        choose_next_job,
        lambda: worker_lost.release_leases_of(runtime, pid=1),
        lambda: sweeper.sweep(runtime.sessions, runtime.celery, runtime.settings),
    ):
        with rows.record_statements(runtime.sessions.kw["bind"]) as statements:
            action()
        assert statements
        assert rows.find_sequential_scans(runtime.settings.database_url, statements) == []
