"""Killed between any two writes, at each named point: the same result as without, and nothing twice."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from benchmarks.chaos import crash_points, images
from benchmarks.chaos.fixtures import evaluation_body
from tests.factories import expire_lease, make_account, make_evaluation, make_key_to_train, make_token
from tests.jobs import run_cell
from unveil.app.db.tables import Cell, Evaluation, Event, IdempotencyRecord, Key, Sample, Scores
from unveil.app.main import create_app
from unveil.app.settings import Settings
from unveil.app.storage import BlobStore
from unveil.worker import cells, jobs, single_flight, sweeper
from unveil.worker.runtime import Runtime, make_runtime

# Imported once, by the process that the doomed are forked from.
_PRELOADED = [
    "tests.worker.test_crash_points",
    "unveil.worker.cells",
    "unveil.models.core.numba_kernels",
    "unveil.app.main",
]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    images.write_dataset(settings.data_dir)
    return settings


def assert_killed_at(point: str, action: Callable[..., None], *arguments: Any) -> None:
    """Run `act` in a process of its own, which must be killed at the point."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    process = context.Process(target=_run_until_killed, args=(point, action, *arguments))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL, f"it did not come to {point}"


def _run_until_killed(point: str, action: Callable[..., None], *arguments: Any) -> None:
    os.setsid()  # the whole process group dies
    os.environ["UNVEIL_CRASH_POINT"] = point
    action(*arguments)


def make_test_runtime(settings: Settings) -> Runtime:
    from unveil.app import broker

    return make_runtime(settings, broker.make_celery_app(settings))


# --- what dies ---


def run_in_process(settings: Settings, id: str) -> None:
    run_cell(make_test_runtime(settings), id)


def release_cell(settings: Settings, id: str) -> None:
    runtime = make_test_runtime(settings)
    job = cells.claim(runtime, id)
    assert job is not None
    jobs.release(job)


def sweep(settings: Settings) -> None:
    runtime = make_test_runtime(settings)
    sweeper.sweep(runtime.sessions, runtime.celery, runtime.settings)


def compute_shared(settings: Settings, id: str) -> None:
    job = cells.claim(make_test_runtime(settings), id)
    assert job is not None
    single_flight.compute_once(job, None, "controls/x", lambda: b"made")


def create_evaluation(settings: Settings, token: str) -> None:
    asyncio.run(post_evaluation(settings, token))


def write_blob(settings: Settings) -> None:
    BlobStore(settings).write("datasets/ds_1.npz", b"new" * 1000)


async def post_evaluation(settings: Settings, token: str) -> httpx.Response:
    app = create_app(settings)
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "once"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://unveil.test") as client,
    ):
        return await client.post("/evaluations", json=evaluation_body(), headers=headers)


# --- and what is then ---


def finish_all(runtime: Runtime) -> None:
    """As workers and the sweeper would, once every lease has run out."""
    with runtime.sessions() as session:
        ids = session.scalars(select(Cell.id).order_by(Cell.position)).all()
        lease_held = session.scalars(select(Cell.id).where(Cell.lease_until.is_not(None))).all()
    for id in lease_held:
        expire_lease(runtime.sessions, id)
    sweeper.sweep(runtime.sessions, runtime.celery, runtime.settings)
    for id in ids:
        run_cell(runtime, id)
    sweeper.sweep(runtime.sessions, runtime.celery, runtime.settings)


def results_of(runtime: Runtime, id: str) -> dict[str, Any]:
    with runtime.sessions() as session:
        cell = session.get_one(Cell, id)
        accepted = session.scalar(
            select(func.count()).where(Event.data["cell"].astext == id, Event.data["status"].astext == "succeeded")
        )
        samples = session.scalar(select(func.count()).where(Sample.cell_id == id))
        ssim = session.get_one(Scores, id).ssim
        evaluation = session.get_one(Evaluation, cell.evaluation_id)
    assert (cell.status, accepted, evaluation.status) == ("succeeded", 1, "succeeded")
    assert evaluation.finished_at is not None
    assert cell.result is not None
    return {**cell.result, "seconds": None, "samples": samples, "all": ssim}


JOB = [
    "job-claimed", "progress-written", "result-before-commit", "result-before-checkpoints-go",
    "job-over-before-acknowledgement",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "action"),
    [
        *((point, run_in_process) for point in JOB),
        ("released-before-dispatch", release_cell),
        ("artifact-computed-before-stored", compute_shared),
    ],
)
def test_a_worker(runtime, account, settings, point, action):
    _, (baseline,) = make_evaluation(runtime.sessions, account, settings={"dataset": images.SMALL_DATASET})
    run_cell(runtime, baseline)
    _, (id,) = make_evaluation(runtime.sessions, account, settings={"dataset": images.SMALL_DATASET})
    assert_killed_at(point, action, settings, id)
    finish_all(runtime)
    assert results_of(runtime, id) == results_of(runtime, baseline)
    assert list(runtime.blobs.list_folder("checkpoints")) == []


@pytest.mark.parametrize("point", ["lease-expired-before-dispatch", "sweep-before-dispatch"])
def test_the_sweeper(runtime, account, settings, point):
    _, ids = make_evaluation(runtime.sessions, account, ("none", "fr"), settings={"dataset": images.SMALL_DATASET})
    cells.claim(runtime, ids[0])
    expire_lease(runtime.sessions, ids[0])
    assert_killed_at(point, sweep, settings)
    finish_all(runtime)
    for id in ids:
        results_of(runtime, id)


@pytest.mark.parametrize(
    "point", ["key-reserved", "create-before-commit", "create-before-dispatch", "create-before-response"]
)
def test_an_order(runtime, settings, point):
    token = make_token(runtime.sessions, runtime.keyring, make_account(runtime.sessions))
    assert_killed_at(point, create_evaluation, settings, token)
    with runtime.sessions.begin() as session:  # its lock has run out
        session.execute(update(IdempotencyRecord).values(locked_until=func.clock_timestamp()))
    answer = asyncio.run(post_evaluation(settings, token))
    assert answer.status_code == 202
    with runtime.sessions() as session:
        assert session.scalars(select(Evaluation.id)).all() == [answer.json()["id"]]
    finish_all(runtime)
    scored = [
        cell["id"]
        for cell in answer.json()["cells"]
        if cell["status"] != "not_applicable" and cell["attack"]["name"] != "brute-force"
    ]
    assert scored
    for id in scored:
        results_of(runtime, id)


def test_the_weights_of_a_destroyed_key(runtime, account, settings):
    id = make_key_to_train(runtime.sessions, runtime.keyring, account)
    runtime.blobs.write("keys/a.1", b"sealed")
    destroyed = {"wrapped_key": None, "weights_blob": "keys/a.1", "destroyed_at": func.clock_timestamp()}
    with runtime.sessions.begin() as session:
        session.execute(update(Key).where(Key.id == id).values(status="succeeded", **destroyed))
    assert_killed_at("weights-gone-before-row", sweep, settings)
    assert not runtime.blobs.exists("keys/a.1")
    finish_all(runtime)
    with runtime.sessions() as session:
        assert session.get_one(Key, id).weights_blob is None


def test_make_chaos_tries_every_point_that_the_code_names():
    root = Path(__file__).parents[2]
    files = [file for room in ("app", "worker", "models") for file in (root / room).rglob("*.py")]
    named = {name for file in files for name in re.findall(r'failpoints\.failpoint\("([^"]+)"\)', file.read_text())}
    assert named == set(crash_points.TRIAL_BY_POINT)
    assert len(named) >= 12


@pytest.mark.parametrize(("point", "found"), [("blob-before-rename", b"old"), ("blob-renamed", b"new" * 1000)])
def test_a_blob_is_the_old_or_the_new_one(settings, point, found):
    BlobStore(settings).write("datasets/ds_1.npz", b"old")
    assert_killed_at(point, write_blob, settings)
    assert BlobStore(settings).read("datasets/ds_1.npz") == found
