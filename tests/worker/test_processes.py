"""Real workers, real signals: whatever is killed, the evaluation ends with the same figures."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import redis.asyncio
from sqlalchemy import select, update

from benchmarks.chaos import images
from tests.factories import expire, make_evaluation, make_key_to_train
from unveil.app import broker
from unveil.app.db.ids import new_id
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Evaluation, Key, Worker
from unveil.app.jobs import event_log
from unveil.app.local.supervisor import Child, spawn
from unveil.app.settings import Settings
from unveil.models.catalog import make_scheme
from unveil.models.core.images import to_png
from unveil.worker import cells, key_loading, key_training, sweeper
from unveil.worker.runtime import Runtime

SLOW = {"dataset": images.NAME, "keys": 1000}  # some seconds, with progress after each key


@pytest.fixture
def settings(settings: Settings) -> Settings:
    images.write_few(settings.data_dir)
    return settings.model_copy(update={"lease_s": 600.0, "heartbeat_s": 0.5, "sweep_s": 1.0})


@contextmanager
def worker(settings: Settings, tmp_path: Path, name: str = "attack", queues: str = "attack,ops") -> Iterator[Child]:
    values = {f"UNVEIL_{field.upper()}": str(value) for field, value in settings if value is not None}
    child = spawn(
        name,
        [sys.executable, "-m", "celery", "--app", "unveil.worker.main", "worker", "--queues", queues,
         "--concurrency", "2", "--hostname", f"{name}@%h", "--loglevel", "INFO"],
        run=tmp_path / "run", log=tmp_path / f"{name}.log", env={**os.environ, **values},
    )  # fmt: skip
    try:
        yield child
    finally:
        child.stop()


def wait(until: Callable[[], bool], what: str, child: Child | None = None, patience_s: float = 150) -> None:
    deadline = time.monotonic() + patience_s
    while not until():
        words = child.last_words(40) if child else ""
        assert time.monotonic() < deadline, f"{what} did not come\n{words}"
        time.sleep(0.05)


def cell(tools: Runtime, id: str) -> Cell:
    with tools.sessions() as session:
        return session.get_one(Cell, id)


def ended(tools: Runtime, evaluation_id: str) -> bool:
    with tools.sessions() as session:
        return session.get_one(Evaluation, evaluation_id).finished_at is not None


def in_the_middle(tools: Runtime, id: str) -> bool:
    found = cell(tools, id)
    return found.status == "running" and found.progress > 0.02


def figures(tools: Runtime, id: str) -> dict:
    found = cell(tools, id)
    assert found.status == "succeeded", found.error
    return {name: value for name, value in found.result.items() if name != "seconds"}


def sweep(tools: Runtime) -> None:
    sweeper.sweep(tools.sessions, tools.celery, tools.settings)


def worker_of(tools: Runtime, id: str) -> psutil.Process:
    """The pool process that has the cell."""
    return psutil.Process(int(cell(tools, id).lease_owner.split("/")[1]))


def test_a_killed_worker_a_killed_child_and_an_orderly_stop_all_end_in_the_same_figures(
    tools, account, settings, tmp_path
):
    _, (calm,) = make_evaluation(tools.sessions, account, ("none",), settings=SLOW)
    cells.handle(tools, calm)
    evaluation_id, (id,) = make_evaluation(tools.sessions, account, ("none",), settings=SLOW)
    sweep(tools)
    with worker(settings, tmp_path) as first:
        # a pool process killed in the middle: its parent tells, long before its lease ends
        wait(lambda: in_the_middle(tools, id), "the middle", first)
        busy = worker_of(tools, id)
        assert "spawn_main" in " ".join(busy.cmdline())  # a fresh interpreter: CUDA would not survive a fork
        busy.kill()
        wait(lambda: cell(tools, id).stalls == 1, "the word of its parent", first)
        wait(lambda: in_the_middle(tools, id), "the second attempt", first)

        # the whole worker killed in the middle
        os.killpg(first.popen.pid, signal.SIGKILL)
    expire(tools.sessions, id)
    with worker(settings, tmp_path, "heir") as heir:
        wait(lambda: cell(tools, id).stalls == 2, "the sweeper of the heir", heir)
        wait(lambda: in_the_middle(tools, id), "the third attempt", heir)
        assert cell(tools, id).attempt == 3

        # an orderly stop
        heir.ask_to_stop()
        wait(lambda: cell(tools, id).status == "queued", "the cell handed back", heir, patience_s=5)
        stalls = cell(tools, id).stalls
        heir.popen.wait(20)
    assert stalls == 2
    with tools.sessions() as session:
        assert session.scalars(select(Worker.name).where(Worker.name.like("heir@%"))).all() == []
    with worker(settings, tmp_path, "next") as next_one:
        # and one of every process at once, as a service manager may ask for
        wait(lambda: in_the_middle(tools, id), "the fourth attempt", next_one)
        os.killpg(next_one.popen.pid, signal.SIGTERM)
        wait(lambda: cell(tools, id).status == "queued", "the cell handed back", next_one, patience_s=5)
        assert cell(tools, id).stalls == 2
        next_one.popen.wait(20)
    with worker(settings, tmp_path, "last") as last:
        wait(lambda: ended(tools, evaluation_id), "the end", last)
        assert cell(tools, id).attempt == 5
    assert figures(tools, id) == figures(tools, calm)


def test_a_running_cell_is_cancelled_within_two_seconds_and_its_message_is_not_run_again(
    tools, account, settings, tmp_path
):
    evaluation_id, (id, *_, last) = make_evaluation(tools.sessions, account, ("none",) * 8, settings=SLOW)
    sweep(tools)
    with worker(settings, tmp_path) as running:
        wait(lambda: in_the_middle(tools, id), "the middle", running)
        with tools.sessions() as session:
            assert session.scalars(select(Worker)).one().queue == "attack,ops"
        # A pool process lets go first who answers, and with a job who encrypts, too.
        assert worker_of(tools, id).nice() == psutil.Process(running.popen.pid).nice() + 10
        asked = time.monotonic()
        with tools.sessions.begin() as session:
            event_log.cancel(session, event_log.lock(session, evaluation_id))
        wait(lambda: ended(tools, evaluation_id), "the cancelled end", running)
        took = time.monotonic() - asked
    assert took < 2.5
    assert [(cell(tools, one).status, cell(tools, one).attempt) for one in (id, last)] == [
        ("cancelled", 1),
        ("cancelled", 0),
    ]


def test_a_training_killed_in_the_middle_ends_in_the_same_weights_and_another_is_cancelled_in_time(
    tools, account, settings, tmp_path
):
    def ordered(**params: object) -> str:
        scheme = make_scheme("tn-gan", {"precision": "fp32", "images": 16, **params}, "smoke")
        return make_key_to_train(tools.sessions, tools.ring, account, scheme=scheme)

    def key(id: str) -> Key:
        with tools.sessions() as session:
            return session.get_one(Key, id)

    calm, killed, endless = ordered(epochs=120), ordered(epochs=120), ordered(epochs=100_000)
    key_training.handle(tools, calm)
    sweep(tools)
    with worker(settings, tmp_path) as running:
        wait(lambda: key(killed).progress > 0.05, "the middle of the training", running)
        assert key(killed).status == "running"
        psutil.Process(int(key(killed).lease_owner.split("/")[1])).kill()
        wait(lambda: key(endless).progress > 0 and key(endless).status == "running", "the endless training", running)
        with tools.sessions.begin() as session:
            session.execute(update(Key).where(Key.id == endless).values(status=Status.CANCELLING))
        asked = time.monotonic()
        wait(lambda: key(endless).status == "cancelled", "the cancelled end", running)
        assert time.monotonic() - asked < 2.5
        wait(lambda: key(killed).status == "succeeded", "the end", running)
    assert key(killed).attempt == 2
    assert key_loading.secret(tools, key(killed)) == key_loading.secret(tools, key(calm))
    assert list(tools.blobs.names("checkpoints")) == []


def test_the_main_process_of_a_worker_imports_no_torch():
    import subprocess

    code = "import sys, unveil.worker.main, unveil.worker.tasks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_encryption_is_answered_though_its_whole_worker_is_asked_to_stop(tools, account, settings, tmp_path):
    def parcel(count: int, side: int) -> broker.Parcel:
        image = to_png(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))
        head = {
            "op": "encrypt", "account": account, "request": "req_1", "scheme": "pixelwise",
            "params": {"key_mode": "same"}, "draw": True, "keys": [new_id("key")] * count,
            "files": [{"name": "a.png", "type": "image/png"}] * count,
        }  # fmt: skip
        return broker.Parcel(head, [image] * count)

    async def taken(client: redis.asyncio.Redis) -> int:
        return (await client.info("commandstats"))["cmdstat_getdel"]["calls"]

    async def asked(child: Child) -> list[broker.Parcel]:
        messages, parcels = broker.Messages(tools.celery), broker.Parcels(tools.ring)
        async with redis.asyncio.Redis.from_url(settings.redis_url) as client:
            small = await broker.ask(messages, client, parcels, new_id("work"), parcel(1, 64), 120)
            before = await taken(client)
            large = asyncio.create_task(broker.ask(messages, client, parcels, new_id("work"), parcel(6, 2000), 60))
            while await taken(client) == before:  # noqa: ASYNC110 - Redis tells nobody
                await asyncio.sleep(0.01)
            os.killpg(child.popen.pid, signal.SIGTERM)  # as a service manager does
            return [small, await large]

    with worker(settings, tmp_path, "encrypt", "encrypt") as child:
        answers = asyncio.run(asked(child))
        child.popen.wait(30)
    assert [len(answer.parts) for answer in answers] == [1, 6]
