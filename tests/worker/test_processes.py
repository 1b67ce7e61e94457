"""Real workers, real signals: whatever is killed, the evaluation ends with the same figures."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np
import psutil
import pytest
import redis
import redis.asyncio
from sqlalchemy import select, update

from benchmarks.chaos import images
from tests.factories import expire_lease, make_evaluation, make_key_to_train
from tests.jobs import run_cell, train_key
from unveil.app.db.ids import new_id
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Evaluation, Key, ProcessHeartbeat
from unveil.app.dependencies import make_app_state
from unveil.app.jobs import cancellation, event_log
from unveil.app.local.supervisor import ChildProcess, spawn
from unveil.app.rpc.messages import ImageFile, Operation, TransformReply, TransformRequest
from unveil.app.settings import Settings
from unveil.models.catalog import make_scheme
from unveil.models.core.images import to_png
from unveil.worker import key_loading, sweeper
from unveil.worker.runtime import Runtime

SLOW_SETTINGS = {"dataset": images.SMALL_DATASET, "keys": 300}  # some seconds, with progress after each key


@pytest.fixture
def settings(settings: Settings) -> Settings:
    images.write_dataset(settings.data_dir)
    return settings.model_copy(update={"lease_ttl_s": 600.0, "heartbeat_interval_s": 0.5, "sweep_interval_s": 1.0})


@contextmanager
def run_worker(
    settings: Settings, tmp_path: Path, name: str = "attack", queues: str = "attack,ops", processes: int = 2
) -> Iterator[ChildProcess]:
    values = {f"UNVEIL_{field.upper()}": str(value) for field, value in settings if value is not None}
    child = spawn(
        name,
        [sys.executable, "-m", "celery", "--app", "unveil.worker.main", "worker", "--queues", queues,
         "--concurrency", str(processes), "--hostname", f"{name}@%h", "--loglevel", "INFO"],
        run_dir=tmp_path / "run", log_path=tmp_path / f"{name}.log", env={**os.environ, **values},
    )  # fmt: skip
    try:
        yield child
    finally:
        child.stop()


def wait_until(
    condition: Callable[[], bool], description: str, child: ChildProcess | None = None, timeout_s: float = 150
) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        log_tail = child.log_tail(40) if child else ""
        assert time.monotonic() < deadline, f"{description} did not come\n{log_tail}"
        time.sleep(0.05)


def get_cell(runtime: Runtime, id: str) -> Cell:
    with runtime.sessions() as session:
        return session.get_one(Cell, id)


def has_ended(runtime: Runtime, evaluation_id: str) -> bool:
    with runtime.sessions() as session:
        return session.get_one(Evaluation, evaluation_id).finished_at is not None


def is_running(runtime: Runtime, id: str) -> bool:
    cell_now = get_cell(runtime, id)
    return cell_now.status == "running" and cell_now.progress > 0.02


def results_of(runtime: Runtime, id: str) -> dict:
    cell_now = get_cell(runtime, id)
    assert cell_now.status == "succeeded", cell_now.error
    return {name: value for name, value in cell_now.result.items() if name != "seconds"}


def run_sweep(runtime: Runtime) -> None:
    sweeper.sweep(runtime.sessions, runtime.celery, runtime.settings)


def get_pool_process(runtime: Runtime, id: str) -> psutil.Process:
    """The pool process that has the cell."""
    return psutil.Process(int(get_cell(runtime, id).lease_owner.split("/")[1]))


@pytest.mark.slow
def test_a_killed_worker_a_killed_child_and_an_orderly_stop_all_end_in_the_same_figures(
    runtime, account, settings, tmp_path
):
    _, (baseline,) = make_evaluation(runtime.sessions, account, ("none",), settings=SLOW_SETTINGS)
    run_cell(runtime, baseline)
    evaluation_id, (id,) = make_evaluation(runtime.sessions, account, ("none",), settings=SLOW_SETTINGS)
    run_sweep(runtime)
    with run_worker(settings, tmp_path) as first:
        # a pool process killed in the middle: its parent releases the lease, long before it expires
        wait_until(lambda: is_running(runtime, id), "the middle", first)
        busy = get_pool_process(runtime, id)
        assert "spawn_main" in " ".join(busy.cmdline())  # a fresh interpreter: CUDA would not survive a fork
        busy.kill()
        wait_until(lambda: get_cell(runtime, id).attempts_without_progress == 1, "the release by its parent", first)
        wait_until(lambda: is_running(runtime, id), "the second attempt", first)

        # the whole worker killed in the middle
        os.killpg(first.popen.pid, signal.SIGKILL)
    expire_lease(runtime.sessions, id)
    with run_worker(settings, tmp_path, "heir", processes=1) as heir:
        wait_until(lambda: get_cell(runtime, id).attempts_without_progress == 2, "the sweeper of the heir", heir)
        wait_until(lambda: is_running(runtime, id), "the third attempt", heir)
        assert get_cell(runtime, id).attempt == 3

        # an orderly stop
        heir.terminate()
        wait_until(lambda: get_cell(runtime, id).status == "queued", "the cell handed back", heir)
        stalls = get_cell(runtime, id).attempts_without_progress
        heir.popen.wait(60)
    assert stalls == 2
    with runtime.sessions() as session:
        assert session.scalars(select(ProcessHeartbeat.name).where(ProcessHeartbeat.name.like("heir@%"))).all() == []
    with run_worker(settings, tmp_path, "next", processes=1) as next_one:
        # and one of every process at once, as a service manager may ask for
        wait_until(lambda: is_running(runtime, id), "the fourth attempt", next_one)
        os.killpg(next_one.popen.pid, signal.SIGTERM)
        wait_until(lambda: get_cell(runtime, id).status == "queued", "the cell handed back", next_one)
        assert get_cell(runtime, id).attempts_without_progress == 2
        next_one.popen.wait(60)
    run_cell(runtime, id)  # another worker's start would show nothing new
    assert get_cell(runtime, id).attempt == 5
    assert has_ended(runtime, evaluation_id)
    assert results_of(runtime, id) == results_of(runtime, baseline)


def test_a_running_cell_is_cancelled_in_the_middle_and_its_message_is_not_run_again(
    runtime, account, settings, tmp_path
):
    endless = {**SLOW_SETTINGS, "keys": 100_000}
    evaluation_id, (id, *_, last) = make_evaluation(runtime.sessions, account, ("none",) * 8, settings=endless)
    run_sweep(runtime)
    with run_worker(settings, tmp_path) as running:
        wait_until(lambda: get_cell(runtime, id).progress > 0, "the middle", running)
        with runtime.sessions() as session:
            assert session.scalars(select(ProcessHeartbeat)).one().queues == ["attack", "ops"]
        # A pool process lets go first who answers, and with a job who encrypts, too.
        assert get_pool_process(runtime, id).nice() == psutil.Process(running.popen.pid).nice() + 10
        busy = get_pool_process(runtime, id).pid
        assert Path(f"/proc/{busy}/oom_score_adj").read_text() == "800\n"
        assert resource.prlimit(busy, resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY
        with runtime.sessions.begin() as session:
            cancellation.cancel_evaluation(session, event_log.lock_evaluation(session, evaluation_id))
        wait_until(lambda: has_ended(runtime, evaluation_id), "the cancelled end", running)
    assert [(get_cell(runtime, one).status, get_cell(runtime, one).attempt) for one in (id, last)] == [
        ("cancelled", 1),
        ("cancelled", 0),
    ]


@pytest.mark.slow
def test_a_training_killed_in_the_middle_ends_in_the_same_weights_and_another_is_cancelled(
    runtime, account, settings, tmp_path
):
    def ordered(**params: object) -> str:
        scheme = make_scheme("tn-gan", {"precision": "fp32", "images": 16, **params}, "smoke")
        return make_key_to_train(runtime.sessions, runtime.keyring, account, scheme=scheme)

    def key(id: str) -> Key:
        with runtime.sessions() as session:
            return session.get_one(Key, id)

    baseline, killed, endless = ordered(epochs=120), ordered(epochs=120), ordered(epochs=100_000)
    train_key(runtime, baseline)
    run_sweep(runtime)
    with run_worker(settings, tmp_path) as running:
        wait_until(lambda: key(killed).progress > 0.05, "the middle of the training", running)
        assert key(killed).status == "running"
        psutil.Process(int(key(killed).lease_owner.split("/")[1])).kill()
        wait_until(
            lambda: key(endless).progress > 0 and key(endless).status == "running", "the endless training", running
        )
        with runtime.sessions.begin() as session:
            session.execute(update(Key).where(Key.id == endless).values(status=Status.CANCELLING))
        wait_until(lambda: key(endless).status == "cancelled", "the cancelled end", running)
        wait_until(lambda: key(killed).status == "succeeded", "the end", running)
    assert key(killed).attempt == 2
    assert key_loading.decrypt_secret(runtime, key(killed)) == key_loading.decrypt_secret(runtime, key(baseline))
    assert list(runtime.blobs.list_folder("checkpoints")) == []


@pytest.mark.slow
def test_a_training_in_time_slices_lets_a_later_cell_run_first_and_ends_in_the_same_weights(
    runtime, account, settings, tmp_path
):
    def order_training() -> str:
        scheme = make_scheme("tn-gan", {"precision": "fp32", "images": 16, "epochs": 240}, "smoke")
        return make_key_to_train(runtime.sessions, runtime.keyring, account, scheme=scheme)

    def get_key(id: str) -> Key:
        with runtime.sessions() as session:
            return session.get_one(Key, id)

    baseline, sliced = order_training(), order_training()
    train_key(runtime, baseline)
    slice_s = get_key(baseline).seconds_used / 3
    run_sweep(runtime)
    with run_worker(settings.model_copy(update={"time_slice_s": slice_s}), tmp_path, processes=1) as running:
        wait_until(lambda: get_key(sliced).progress > 0, "the training", running)
        _, (cell,) = make_evaluation(runtime.sessions, account, ("fr",), settings={"dataset": images.SMALL_DATASET})
        wait_until(lambda: get_cell(runtime, cell).status == "succeeded", "the cell behind it", running)
        wait_until(lambda: get_key(sliced).status == "succeeded", "the end", running)
    assert get_cell(runtime, cell).finished_at < get_key(sliced).finished_at
    assert get_key(sliced).attempt > 1
    assert key_loading.decrypt_secret(runtime, get_key(sliced)) == key_loading.decrypt_secret(
        runtime, get_key(baseline)
    )


def test_the_main_process_of_a_worker_imports_no_torch():
    import subprocess

    code = "import sys, unveil.worker.main, unveil.worker.tasks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_encryption_is_answered_though_its_whole_worker_is_asked_to_stop(runtime, account, settings, tmp_path):
    def make_request(count: int, side: int) -> TransformRequest:
        png = to_png(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))
        return TransformRequest(
            account_id=account, operation=Operation.ENCRYPT, scheme="pixelwise", settings={"key_mode": "same"},
            key_ids=[new_id("key")] * count, draw_keys=True, images=[ImageFile("a.png", png)] * count,
        )  # fmt: skip

    async def count_getdel_calls(client: redis.asyncio.Redis) -> int:
        return (await client.info("commandstats"))["cmdstat_getdel"]["calls"]

    async def send_requests(child: ChildProcess) -> list[TransformReply]:
        app_state = make_app_state(settings)
        async with redis.asyncio.Redis.from_url(settings.redis_url) as client:
            small = await app_state.worker.call(make_request(1, 64), TransformReply, timeout_s=120)
            calls_before = await count_getdel_calls(client)
            large = asyncio.create_task(app_state.worker.call(make_request(6, 2000), TransformReply, timeout_s=120))
            while await count_getdel_calls(client) == calls_before:  # noqa: ASYNC110 - Redis tells nobody
                await asyncio.sleep(0.01)
            os.killpg(child.popen.pid, signal.SIGTERM)  # as a service manager does
            replies = [small, await large]
            await app_state.close()
            return replies

    with run_worker(settings, tmp_path, "encrypt", "encrypt") as child:
        answers = asyncio.run(send_requests(child))
        child.popen.wait(60)
    assert [len(answer.images) for answer in answers] == [1, 6]


_OLD_MESSAGES = {  # of version 0.1: its queue, its tasks and an id
    "attack": ("worker.tasks.run_cell", "worker.tasks.train_key"), "encrypt": ("worker.tasks.transform",),
}  # fmt: skip


def make_old_message(queue: str, task: str) -> str:
    """As version 0.1 pushed it to Redis."""
    id = str(uuid4())
    return json.dumps(
        {
            "body": base64.b64encode(b'[["cell_0197f3c2a5d17a3b8c4d5e6f708192a3"], {}, {"callbacks": null}]').decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py", "task": task, "id": id, "root_id": id, "parent_id": None, "group": None, "retries": 0,
                "timelimit": [None, None], "argsrepr": "('cell_',)", "kwargsrepr": "{}", "ignore_result": True,
            },
            "properties": {
                "correlation_id": id, "reply_to": str(uuid4()), "delivery_mode": 2, "priority": 0,
                "delivery_info": {"exchange": "", "routing_key": queue}, "body_encoding": "base64",
                "delivery_tag": str(uuid4()),
            },
        }
    )  # fmt: skip


def test_redis_wiped_under_queued_and_running_work_loses_none(runtime, account, settings, tmp_path):
    evaluation_id, ids = make_evaluation(
        runtime.sessions, account, ("none", "fr", "brute-force"), settings={**SLOW_SETTINGS, "keys": 30}
    )
    with (
        redis.Redis.from_url(settings.redis_url) as client,
        run_worker(settings, tmp_path, "both", "attack,ops") as child,
    ):
        wait_until(lambda: get_cell(runtime, ids[0]).status != "queued", "the start", child)
        client.flushall()
        wait_until(lambda: has_ended(runtime, evaluation_id), "the end", child)
        assert [get_cell(runtime, id).status for id in ids] == ["succeeded"] * 3


def test_messages_of_the_version_before_are_dropped_and_their_jobs_dispatched_again(
    runtime, account, settings, tmp_path
):
    evaluation_id, ids = make_evaluation(
        runtime.sessions, account, ("none", "fr"), settings={"dataset": images.SMALL_DATASET}
    )
    with redis.Redis.from_url(settings.redis_url) as client:
        for queue, tasks in _OLD_MESSAGES.items():
            client.lpush(queue, *(make_old_message(queue, task) for task in tasks))
        with run_worker(settings, tmp_path, "both", "attack,encrypt,ops") as child:
            wait_until(lambda: has_ended(runtime, evaluation_id), "the end", child)
            assert [get_cell(runtime, id).status for id in ids] == ["succeeded"] * 2
            assert client.exists("attack", "encrypt") == 0
            wait_until(lambda: client.hlen("unacked") == 0, "acknowledgements, or dropped messages come again", child)
            assert child.running
            log = child.log_tail(1000)
        for tasks in _OLD_MESSAGES.values():
            for task in tasks:
                assert f"unregistered task of type '{task}'" in log
