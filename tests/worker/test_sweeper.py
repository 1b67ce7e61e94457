"""What was lost is found, by any number of sweepers."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import func, select, text, update

from tests.factories import expire, make_evaluation
from unveil.app import broker
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Evaluation, Event
from unveil.app.jobs import event_log
from unveil.worker import cells, sweeper
from unveil.worker.runtime import Runtime


def sweep(tools: Runtime) -> None:
    sweeper.sweep(tools.sessions, tools.celery, tools.settings)


def cell(tools: Runtime, id: str) -> Cell:
    with tools.sessions() as session:
        return session.get_one(Cell, id)


def status(tools: Runtime, evaluation_id: str) -> str:
    with tools.sessions() as session:
        return session.get_one(Evaluation, evaluation_id).status


def waiting(tools: Runtime) -> int:
    return broker.waiting(tools.celery, broker.RUN_CELL)


def test_an_id_that_was_never_sent_is_sent_once(tools, account):
    make_evaluation(tools.sessions, account, ("none", "fr"))
    assert waiting(tools) == 0
    sweep(tools)
    sweep(tools)
    assert waiting(tools) == 2


def test_a_lost_message_is_sent_again_after_a_while_and_a_waiting_one_is_not(tools, account):
    make_evaluation(tools.sessions, account, ("none", "fr"))
    sweep(tools)
    with tools.sessions.begin() as session:
        session.execute(update(Cell).values(sent_at=func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 1)))
    sweep(tools)
    assert waiting(tools) == 2  # both still wait there, however long
    empty_broker(tools)
    sweep(tools)
    assert waiting(tools) == 2


def empty_broker(tools: Runtime) -> None:
    import redis

    with redis.Redis.from_url(tools.settings.redis_url) as client:
        client.flushdb()


def test_a_message_sent_just_now_is_given_time(tools, account):
    make_evaluation(tools.sessions, account)
    sweep(tools)
    empty_broker(tools)
    sweep(tools)
    assert waiting(tools) == 0


def test_a_silent_workers_cell_is_queued_again(tools, account):
    evaluation_id, (id,) = make_evaluation(tools.sessions, account)
    cells.claim(tools, id)
    sweep(tools)
    assert cell(tools, id).status == "running"  # its lease has not run out
    expire(tools.sessions, id)
    sweep(tools)
    found = cell(tools, id)
    assert (found.status, found.stalls, found.lease_owner) == ("queued", 1, None)
    assert status(tools, evaluation_id) == "running"
    assert waiting(tools) == 1
    order = cells.claim(tools, id)
    assert order.lease.attempt == 2


def test_at_the_cap_a_cell_that_never_gets_further_fails_as_poison(tools, account):
    evaluation_id, (id,) = make_evaluation(tools.sessions, account)
    for attempt in range(1, tools.settings.max_stalls + 1):
        assert cells.claim(tools, id).lease.attempt == attempt
        expire(tools.sessions, id)
        sweep(tools)
    found = cell(tools, id)
    assert (found.status, found.error["code"]) == ("failed", "poison")
    assert found.finished_at is not None
    assert status(tools, evaluation_id) == "failed"
    assert cells.claim(tools, id) is None


def test_a_cancelling_cell_whose_worker_is_gone_ends_cancelled(tools, account):
    evaluation_id, (id,) = make_evaluation(tools.sessions, account)
    cells.claim(tools, id)
    with tools.sessions.begin() as session:
        event_log.cancel(session, event_log.lock(session, evaluation_id))
    expire(tools.sessions, id)
    sweep(tools)
    assert cell(tools, id).status == "cancelled"
    assert status(tools, evaluation_id) == "cancelled"


def test_an_evaluation_left_open_is_ended(tools, account):
    evaluation_id, _ = make_evaluation(tools.sessions, account)
    with tools.sessions.begin() as session:
        session.execute(update(Cell).values(status=Status.SUCCEEDED, finished_at=func.clock_timestamp()))
    sweep(tools)
    sweep(tools)
    assert status(tools, evaluation_id) == "succeeded"
    with tools.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Event)) == 1


def make_untellable(tools: Runtime, id: str) -> None:
    """No event can be written of it."""
    with tools.sessions.begin() as session:
        session.get_one(Cell, id).attack = {}


def test_a_cell_that_cannot_be_given_up_keeps_no_other_from_it(tools, account, caplog):
    ids = [make_evaluation(tools.sessions, account)[1][0] for _ in range(3)]
    for id in ids:
        cells.claim(tools, id)
        expire(tools.sessions, id)
    make_untellable(tools, ids[1])
    sweep(tools)
    assert [cell(tools, id).status for id in ids] == ["queued", "running", "queued"]
    assert f"giving up {ids[1]} failed" in caplog.text
    assert waiting(tools) == 2


def test_an_evaluation_that_cannot_be_ended_keeps_no_other_open(tools, account, caplog):
    made = [make_evaluation(tools.sessions, account) for _ in range(3)]
    with tools.sessions.begin() as session:
        session.execute(update(Cell).values(status=Status.SUCCEEDED, finished_at=func.clock_timestamp()))
    make_untellable(tools, made[1][1][0])
    sweep(tools)
    assert [status(tools, id) for id, _ in made] == ["succeeded", "queued", "succeeded"]
    assert f"finishing {made[1][0]} failed" in caplog.text


@pytest.mark.parametrize("broken", ["give_up_silent_workers", "finish_evaluations", "ring_again", "clear_blobs"])
def test_a_part_of_the_sweep_that_fails_stops_no_other(tools, account, monkeypatch, caplog, broken):
    def fail(*_):
        raise LookupError(broken)

    _, (silent, _) = make_evaluation(tools.sessions, account, ("none", "fr"))
    cells.claim(tools, silent)
    expire(tools.sessions, silent)
    ended, (id,) = make_evaluation(tools.sessions, account)
    with tools.sessions.begin() as session:
        session.get_one(Cell, id).status = Status.SUCCEEDED
    tools.blobs.write("checkpoints/cell_gone/network.ckpt", b"")
    monkeypatch.setattr(sweeper, broken, fail)
    sweep(tools)
    done = {
        "give_up_silent_workers": cell(tools, silent).status == "queued",
        "finish_evaluations": status(tools, ended) == "succeeded",
        "ring_again": waiting(tools) > 0,
        "clear_blobs": list(tools.blobs.names("checkpoints")) == [],
    }
    assert [part for part, is_done in done.items() if not is_done] == [broken]
    assert f"LookupError: {broken}" in caplog.text


def test_what_only_another_version_knows_is_queued_again_and_rung_for(tools, account):
    _, (id,) = make_evaluation(tools.sessions, account)
    cells.claim(tools, id)
    expire(tools.sessions, id)
    with tools.sessions.begin() as session:
        session.get_one(Cell, id).attack = {"name": "later"}
    sweep(tools)
    assert cell(tools, id).status == "queued"
    assert waiting(tools) == 1


def test_many_sweepers_at_once_do_each_thing_once(tools, account):
    _, ids = make_evaluation(tools.sessions, account, ("none", "fr", "brute-force"))
    for id in ids:
        cells.claim(tools, id)
        expire(tools.sessions, id)
    start = threading.Barrier(4)

    def run(_: int) -> None:
        start.wait()
        sweeper.give_up_silent_workers(tools.sessions, tools.settings)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    sweep(tools)  # what one skipped because another held it
    assert [(cell(tools, id).status, cell(tools, id).stalls) for id in ids] == [("queued", 1)] * 3


def test_a_broker_that_is_away_stops_no_other_work(tools, account, unused_url):
    _, (id, _) = make_evaluation(tools.sessions, account, ("none", "fr"))
    cells.claim(tools, id)
    expire(tools.sessions, id)
    away = replace(tools, celery=broker.celery_app(tools.settings.model_copy(update={"redis_url": unused_url})))
    sweep(away)
    assert cell(tools, id).status == "queued"
    assert cell(tools, id).sent_at is None
    sweep(tools)
    assert waiting(tools) == 2


def test_a_broker_that_hangs_holds_up_the_sweep_for_seconds_only(tools, account):
    _, (id, _) = make_evaluation(tools.sessions, account, ("none", "fr"))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        hangs = replace(tools, celery=broker.celery_app(tools.settings.model_copy(update={"redis_url": url})))
        swept = threading.Thread(target=sweep, args=(hangs,))
        swept.start()
        swept.join(60)
        assert not swept.is_alive()
    assert cell(tools, id).sent_at is None
    sweep(tools)
    assert waiting(tools) == 2


@pytest.fixture
def unused_url() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{taken.getsockname()[1]}/0"


def test_more_wait_than_a_statement_has_parameters(tools, account):
    make_evaluation(tools.sessions, account)
    with tools.sessions.begin() as session:
        columns = [c.name for c in Cell.__table__.columns if c.name not in ("id", "position")]
        copied = ", ".join(columns)
        session.execute(
            text(
                f"INSERT INTO cells (id, position, {copied}) "
                f"SELECT 'cell_' || n, n, {copied} FROM cells, generate_series(1000, 66999) n"
            )
        )
    ids = sweeper._to_ring(tools.sessions, Cell, lost=True)
    assert len(ids) == 66_001
