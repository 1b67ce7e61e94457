"""What was lost is found, by any number of sweepers."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import func, select, text, update

from tests.factories import expire_lease, make_evaluation
from unveil.app import broker
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Evaluation, Event
from unveil.app.jobs import cancellation, event_log
from unveil.worker import cells, sweeper
from unveil.worker.runtime import Runtime


def run_sweep(runtime: Runtime) -> None:
    sweeper.sweep(runtime.sessions, runtime.celery, runtime.settings)


def get_cell(runtime: Runtime, id: str) -> Cell:
    with runtime.sessions() as session:
        return session.get_one(Cell, id)


def evaluation_status(runtime: Runtime, evaluation_id: str) -> str:
    with runtime.sessions() as session:
        return session.get_one(Evaluation, evaluation_id).status


def count_messages(runtime: Runtime) -> int:
    return broker.count_job_messages(runtime.celery)


def test_queued_jobs_without_a_message_get_one_each(runtime, account):
    make_evaluation(runtime.sessions, account, ("none", "fr"))
    assert count_messages(runtime) == 0
    run_sweep(runtime)
    run_sweep(runtime)
    assert count_messages(runtime) == 2


def test_lost_messages_are_sent_again_and_waiting_ones_are_not(runtime, account):
    make_evaluation(runtime.sessions, account, ("none", "fr", "brute-force"))
    broker.enqueue_jobs(runtime.celery, 1)
    run_sweep(runtime)
    assert count_messages(runtime) == 3
    empty_broker(runtime)
    run_sweep(runtime)
    assert count_messages(runtime) == 3


def test_sweepers_at_once_send_each_message_once(runtime, account):
    make_evaluation(runtime.sessions, account, ("none", "fr"))
    start = threading.Barrier(4)

    def redispatch(_: int) -> None:
        start.wait()
        sweeper.redispatch_lost_messages(runtime.sessions, runtime.celery)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(redispatch, range(4)))
    assert count_messages(runtime) == 2


def empty_broker(runtime: Runtime) -> None:
    import redis

    with redis.Redis.from_url(runtime.settings.redis_url) as client:
        client.flushdb()


def test_a_silent_workers_cell_is_queued_again(runtime, account):
    evaluation_id, (id,) = make_evaluation(runtime.sessions, account)
    cells.claim(runtime, id)
    run_sweep(runtime)
    assert get_cell(runtime, id).status == "running"  # its lease has not run out
    expire_lease(runtime.sessions, id)
    run_sweep(runtime)
    cell_now = get_cell(runtime, id)
    assert (cell_now.status, cell_now.attempts_without_progress, cell_now.lease_owner) == ("queued", 1, None)
    assert evaluation_status(runtime, evaluation_id) == "running"
    assert count_messages(runtime) == 1
    order = cells.claim(runtime, id)
    assert order.lease.attempt == 2


def test_at_the_cap_a_cell_that_never_gets_further_fails_as_poison(runtime, account):
    evaluation_id, (id,) = make_evaluation(runtime.sessions, account)
    for attempt in range(1, runtime.settings.max_attempts_without_progress + 1):
        assert cells.claim(runtime, id).lease.attempt == attempt
        expire_lease(runtime.sessions, id)
        run_sweep(runtime)
    cell_now = get_cell(runtime, id)
    assert (cell_now.status, cell_now.error["code"]) == ("failed", "poison")
    assert cell_now.finished_at is not None
    assert evaluation_status(runtime, evaluation_id) == "failed"
    assert cells.claim(runtime, id) is None


def test_a_cancelling_cell_whose_worker_is_gone_ends_cancelled(runtime, account):
    evaluation_id, (id,) = make_evaluation(runtime.sessions, account)
    cells.claim(runtime, id)
    with runtime.sessions.begin() as session:
        cancellation.cancel_evaluation(session, event_log.lock_evaluation(session, evaluation_id))
    expire_lease(runtime.sessions, id)
    run_sweep(runtime)
    assert get_cell(runtime, id).status == "cancelled"
    assert evaluation_status(runtime, evaluation_id) == "cancelled"


def test_an_evaluation_left_open_is_ended(runtime, account):
    evaluation_id, _ = make_evaluation(runtime.sessions, account)
    with runtime.sessions.begin() as session:
        session.execute(update(Cell).values(status=Status.SUCCEEDED, finished_at=func.clock_timestamp()))
    run_sweep(runtime)
    run_sweep(runtime)
    assert evaluation_status(runtime, evaluation_id) == "succeeded"
    with runtime.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Event)) == 1


def break_event_data(runtime: Runtime, id: str) -> None:
    """No event can be written of it."""
    with runtime.sessions.begin() as session:
        session.get_one(Cell, id).attack = {}


def test_a_cell_that_cannot_be_given_up_keeps_no_other_from_it(runtime, account, caplog):
    ids = [make_evaluation(runtime.sessions, account)[1][0] for _ in range(3)]
    for id in ids:
        cells.claim(runtime, id)
        expire_lease(runtime.sessions, id)
    break_event_data(runtime, ids[1])
    run_sweep(runtime)
    assert [get_cell(runtime, id).status for id in ids] == ["queued", "running", "queued"]
    assert f"requeueing {ids[1]} failed" in caplog.text
    assert count_messages(runtime) == 2


def test_an_evaluation_that_cannot_be_ended_keeps_no_other_open(runtime, account, caplog):
    evaluations = [make_evaluation(runtime.sessions, account) for _ in range(3)]
    with runtime.sessions.begin() as session:
        session.execute(update(Cell).values(status=Status.SUCCEEDED, finished_at=func.clock_timestamp()))
    break_event_data(runtime, evaluations[1][1][0])
    run_sweep(runtime)
    assert [evaluation_status(runtime, id) for id, _ in evaluations] == ["succeeded", "queued", "succeeded"]
    assert f"finishing {evaluations[1][0]} failed" in caplog.text


@pytest.mark.parametrize(
    "broken", ["requeue_expired_leases", "finish_evaluations", "redispatch_lost_messages", "delete_leftover_blobs"]
)
def test_a_part_of_the_sweep_that_fails_stops_no_other(runtime, account, monkeypatch, caplog, broken):
    def fail(*_):
        raise LookupError(broken)

    _, (silent_id, _) = make_evaluation(runtime.sessions, account, ("none", "fr"))
    cells.claim(runtime, silent_id)
    expire_lease(runtime.sessions, silent_id)
    ended, (id,) = make_evaluation(runtime.sessions, account)
    with runtime.sessions.begin() as session:
        session.get_one(Cell, id).status = Status.SUCCEEDED
    runtime.blobs.write("checkpoints/cell_gone/network.ckpt", b"")
    monkeypatch.setattr(sweeper, broken, fail)
    run_sweep(runtime)
    done = {
        "requeue_expired_leases": get_cell(runtime, silent_id).status == "queued",
        "finish_evaluations": evaluation_status(runtime, ended) == "succeeded",
        "redispatch_lost_messages": count_messages(runtime) > 0,
        "delete_leftover_blobs": list(runtime.blobs.list_folder("checkpoints")) == [],
    }
    assert [part for part, is_done in done.items() if not is_done] == [broken]
    assert f"LookupError: {broken}" in caplog.text


def test_what_only_another_version_knows_is_queued_again_and_rung_for(runtime, account):
    _, (id,) = make_evaluation(runtime.sessions, account)
    cells.claim(runtime, id)
    expire_lease(runtime.sessions, id)
    with runtime.sessions.begin() as session:
        session.get_one(Cell, id).attack = {"name": "later"}
    run_sweep(runtime)
    assert get_cell(runtime, id).status == "queued"
    assert count_messages(runtime) == 1


def test_many_sweepers_at_once_do_each_thing_once(runtime, account):
    _, ids = make_evaluation(runtime.sessions, account, ("none", "fr", "brute-force"))
    for id in ids:
        cells.claim(runtime, id)
        expire_lease(runtime.sessions, id)
    start = threading.Barrier(4)

    def run(_: int) -> None:
        start.wait()
        sweeper.requeue_expired_leases(runtime.sessions, runtime.settings)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    run_sweep(runtime)  # what one skipped because another held it
    assert [(get_cell(runtime, id).status, get_cell(runtime, id).attempts_without_progress) for id in ids] == [
        ("queued", 1)
    ] * 3


def test_a_broker_that_is_away_stops_no_other_work(runtime, account, unused_url):
    _, (id, _) = make_evaluation(runtime.sessions, account, ("none", "fr"))
    cells.claim(runtime, id)
    expire_lease(runtime.sessions, id)
    runtime_without_broker = replace(
        runtime, celery=broker.make_celery_app(runtime.settings.model_copy(update={"redis_url": unused_url}))
    )
    run_sweep(runtime_without_broker)
    assert get_cell(runtime, id).status == "queued"
    run_sweep(runtime)
    assert count_messages(runtime) == 2


def test_a_broker_that_hangs_holds_up_the_sweep_for_seconds_only(runtime, account):
    make_evaluation(runtime.sessions, account, ("none", "fr"))
    with socket.create_server(("127.0.0.1", 0)) as silent_id:  # takes connections and says nothing
        url = f"redis://127.0.0.1:{silent_id.getsockname()[1]}/0"
        runtime_with_hanging_broker = replace(
            runtime, celery=broker.make_celery_app(runtime.settings.model_copy(update={"redis_url": url}))
        )
        swept = threading.Thread(target=run_sweep, args=(runtime_with_hanging_broker,))
        swept.start()
        swept.join(60)
        assert not swept.is_alive()
    run_sweep(runtime)
    assert count_messages(runtime) == 2


@pytest.fixture
def unused_url() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{taken.getsockname()[1]}/0"


def test_more_wait_than_a_statement_has_parameters(runtime, account):
    make_evaluation(runtime.sessions, account)
    with runtime.sessions.begin() as session:
        columns = [c.name for c in Cell.__table__.columns if c.name not in ("id", "position")]
        copied = ", ".join(columns)
        session.execute(
            text(
                f"INSERT INTO cells (id, position, {copied}) "
                f"SELECT 'cell_' || n, n, {copied} FROM cells, generate_series(1000, 66999) n"
            )
        )
    with runtime.sessions() as session:
        ids = session.scalars(select(Cell.id)).all()
        assert len(session.scalars(select(Cell.id).where(sweeper._id_is_one_of(Cell, ids))).all()) == 66_001
