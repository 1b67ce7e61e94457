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
from benchmarks.chaos.fixtures import body
from tests.factories import expire, make_account, make_evaluation, make_key_to_train, make_token
from unveil.app.db.tables import Cell, Evaluation, Event, Idempotency, Key, Sample, Scores
from unveil.app.main import create_app
from unveil.app.settings import Settings
from unveil.app.storage import Blobs
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
    images.write_few(settings.data_dir)
    return settings


def dies_at(point: str, act: Callable[..., None], *given: Any) -> None:
    """Run `act` in a process of its own, which must be killed at the point."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    doomed = context.Process(target=_doomed, args=(point, act, *given))
    doomed.start()
    doomed.join(120)
    assert doomed.exitcode == -signal.SIGKILL, f"it did not come to {point}"


def _doomed(point: str, act: Callable[..., None], *given: Any) -> None:
    os.setsid()  # the whole process group dies
    os.environ["UNVEIL_CRASH_POINT"] = point
    act(*given)


def tools_of(settings: Settings) -> Runtime:
    from unveil.app import broker

    return make_runtime(settings, broker.celery_app(settings))


# --- what dies ---


def run(settings: Settings, id: str) -> None:
    cells.handle(tools_of(settings), id)


def hand_back(settings: Settings, id: str) -> None:
    tools = tools_of(settings)
    job = cells.claim(tools, id)
    assert job is not None
    jobs.hand_back(job)


def sweep(settings: Settings) -> None:
    tools = tools_of(settings)
    sweeper.sweep(tools.sessions, tools.celery, tools.settings)


def share(settings: Settings, id: str) -> None:
    job = cells.claim(tools_of(settings), id)
    assert job is not None
    single_flight.once(job, None, "controls/x", lambda: b"made")


def order(settings: Settings, token: str) -> None:
    asyncio.run(post(settings, token))


def write(settings: Settings) -> None:
    Blobs(settings).write("datasets/ds_1.npz", b"new" * 1000)


async def post(settings: Settings, token: str) -> httpx.Response:
    app = create_app(settings)
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "once"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://unveil.test") as client,
    ):
        return await client.post("/evaluations", json=body(), headers=headers)


# --- and what is then ---


def finish(tools: Runtime) -> None:
    """As workers and the sweeper would, once every lease has run out."""
    with tools.sessions() as session:
        ids = session.scalars(select(Cell.id).order_by(Cell.position)).all()
        held = session.scalars(select(Cell.id).where(Cell.lease_until.is_not(None))).all()
    for id in held:
        expire(tools.sessions, id)
    sweeper.sweep(tools.sessions, tools.celery, tools.settings)
    for id in ids:
        cells.handle(tools, id)
    sweeper.sweep(tools.sessions, tools.celery, tools.settings)


def figures(tools: Runtime, id: str) -> dict[str, Any]:
    with tools.sessions() as session:
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


@pytest.mark.parametrize(
    ("point", "act"),
    [
        *((point, run) for point in JOB),
        ("handed-back-before-ring", hand_back),
        ("marked-sent-before-ring", hand_back),
        ("shared-made-before-kept", share),
    ],
)
def test_a_worker(tools, account, settings, point, act):
    _, (calm,) = make_evaluation(tools.sessions, account, settings={"dataset": images.NAME})
    cells.handle(tools, calm)
    _, (id,) = make_evaluation(tools.sessions, account, settings={"dataset": images.NAME})
    dies_at(point, act, settings, id)
    finish(tools)
    assert figures(tools, id) == figures(tools, calm)
    assert list(tools.blobs.names("checkpoints")) == []


@pytest.mark.parametrize("point", ["given-up-before-ring", "sweep-before-ring"])
def test_the_sweeper(tools, account, settings, point):
    _, ids = make_evaluation(tools.sessions, account, ("none", "fr"), settings={"dataset": images.NAME})
    cells.claim(tools, ids[0])
    expire(tools.sessions, ids[0])
    dies_at(point, sweep, settings)
    finish(tools)
    for id in ids:
        figures(tools, id)


@pytest.mark.parametrize("point", ["key-reserved", "order-before-commit", "order-before-ring", "order-before-answer"])
def test_an_order(tools, settings, point):
    token = make_token(tools.sessions, tools.ring, make_account(tools.sessions))
    dies_at(point, order, settings, token)
    with tools.sessions.begin() as session:  # its lock has run out
        session.execute(update(Idempotency).values(locked_until=func.clock_timestamp()))
    answer = asyncio.run(post(settings, token))
    assert answer.status_code == 202
    with tools.sessions() as session:
        assert session.scalars(select(Evaluation.id)).all() == [answer.json()["id"]]
    finish(tools)
    for cell in answer.json()["cells"]:
        figures(tools, cell["id"])


def test_the_weights_of_a_destroyed_key(tools, account, settings):
    id = make_key_to_train(tools.sessions, tools.ring, account)
    tools.blobs.write("keys/a.1", b"sealed")
    destroyed = {"status": "succeeded", "sealed": None, "blob": "keys/a.1", "destroyed_at": func.clock_timestamp()}
    with tools.sessions.begin() as session:
        session.execute(update(Key).where(Key.id == id).values(**destroyed))
    dies_at("weights-gone-before-row", sweep, settings)
    assert not tools.blobs.exists("keys/a.1")
    finish(tools)
    with tools.sessions() as session:
        assert session.get_one(Key, id).blob is None


def test_make_chaos_tries_every_point_that_the_code_names():
    root = Path(__file__).parents[2]
    files = [file for room in ("app", "worker", "models") for file in (root / room).rglob("*.py")]
    named = {name for file in files for name in re.findall(r'crash\.point\("([^"]+)"\)', file.read_text())}
    assert named == set(crash_points.POINTS)
    assert len(named) >= 12


@pytest.mark.parametrize(("point", "found"), [("blob-before-rename", b"old"), ("blob-renamed", b"new" * 1000)])
def test_a_blob_is_the_old_or_the_new_one(settings, point, found):
    Blobs(settings).write("datasets/ds_1.npz", b"old")
    dies_at(point, write, settings)
    assert Blobs(settings).read("datasets/ds_1.npz") == found
