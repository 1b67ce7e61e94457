"""A cell from its claim to its rows."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from sqlalchemy import func, select, update

from tests.factories import make_evaluation
from unveil.app.db.ids import new_id
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Curve, Evaluation, Event, Key, Sample, Scores
from unveil.app.jobs import event_log
from unveil.models.core.errors import AttackFailed
from unveil.models.data.datasets import DatasetMissing
from unveil.models.evaluation.cell import CellResult
from unveil.models.evaluation.cell import Sample as Triple
from unveil.models.evaluation.cell import Scores as Arrays
from unveil.models.schemes.base import new_secret
from unveil.worker import cells, jobs, lease
from unveil.worker.runtime import Runtime

RESULT = {"verdict": "leaks", "psnr": {"mean": float("inf")}, "seconds": 0.1, "device": "cpu", "ssim": {"mean": 0.5}}
PICTURE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def finished(**changed: object) -> CellResult:
    values: dict = {
        "result": RESULT,
        "samples": [Triple(3, 0.5, PICTURE, PICTURE, PICTURE)],
        "scores": Arrays(np.arange(2), np.array([0.4, 0.6]), np.array([9.0, np.inf]), np.array([1.0, 2.0])),
        "curves": {"ssim": [[1, 0.5]]},
    }
    return CellResult(**{**values, **changed})


def science(monkeypatch: pytest.MonkeyPatch, run) -> None:
    """Put `run(context)` in the place of the science."""
    monkeypatch.setattr(cells, "load_data", lambda *_: None)
    monkeypatch.setattr(jobs, "REPORT_S", 0.0)
    monkeypatch.setattr(cells, "run_cell", lambda scheme, attack, data, options, context, **_: run(context))


def cell(tools: Runtime, id: str) -> Cell:
    with tools.sessions() as session:
        return session.get_one(Cell, id)


def evaluation(tools: Runtime, id: str) -> Evaluation:
    with tools.sessions() as session:
        return session.get_one(Evaluation, id)


def events(tools: Runtime, evaluation_id: str) -> list[Event]:
    with tools.sessions() as session:
        chosen = select(Event).where(Event.evaluation_id == evaluation_id).order_by(Event.seq)
        return list(session.scalars(chosen))


def count(tools: Runtime, table: type) -> int:
    with tools.sessions() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_cell_runs_and_everything_that_came_of_it_is_stored(tools, account):
    evaluation_id, (first, second) = make_evaluation(tools.sessions, account, ("none", "fr"))
    cells.handle(tools, first)
    assert evaluation(tools, evaluation_id).status == "running"
    cells.handle(tools, second)
    done = cell(tools, first)
    assert (done.status, done.progress, done.error, done.lease_owner) == ("succeeded", 1.0, None, None)
    assert done.result["ssim"]["mode"] == "rgb7"
    assert done.result["versions"]["torch"]
    with tools.sessions() as session:
        scores = session.get_one(Scores, first)
        samples = session.scalars(select(Sample).where(Sample.cell_id == first)).all()
    assert len(scores.ssim) == len(scores.rank) == done.result["ssim"]["n"]
    assert len(samples) == 2
    assert all(sample.protected.startswith(b"\x89PNG") for sample in samples)
    ended = evaluation(tools, evaluation_id)
    assert ended.status == "succeeded"
    assert ended.finished_at >= ended.started_at
    told = events(tools, evaluation_id)
    assert [event.seq for event in told] == list(range(1, ended.version + 1))
    assert [event.data["status"] for event in told if event.type == "status"] == ["running", "succeeded"]
    assert told[-1].type == "status"


def test_the_same_cell_run_twice_gives_the_same_figures(tools, account):
    results = []
    for _ in range(2):
        _, (id,) = make_evaluation(tools.sessions, account, ("fr",))
        cells.handle(tools, id)
        results.append({k: v for k, v in cell(tools, id).result.items() if k != "seconds"})
    assert results[0] == results[1]


def test_a_message_that_comes_twice_changes_nothing(tools, account, monkeypatch):
    _, (id,) = make_evaluation(tools.sessions, account)
    science(monkeypatch, lambda context: finished())
    cells.handle(tools, id)
    before = cell(tools, id)
    science(monkeypatch, lambda context: pytest.fail("it ran again"))
    cells.handle(tools, id)
    cells.handle(tools, "cell_" + "0" * 32)
    assert cell(tools, id).finished_at == before.finished_at


def test_progress_and_metrics_become_events_and_a_curve(tools, account, monkeypatch):
    evaluation_id, (id,) = make_evaluation(tools.sessions, account)

    def run(context):
        context.metric("loss", 1, 0.5)
        context.report(0.5, "epoch 1 of 2")
        assert (cell(tools, id).progress, cell(tools, id).phase) == (0.5, "epoch 1 of 2")
        context.metric("loss", 2, 0.25)
        context.metric("loss", 3, float("nan"))
        return finished()

    science(monkeypatch, run)
    cells.handle(tools, id)
    told = events(tools, evaluation_id)
    progress = next(event.data for event in told if event.type == "progress" and event.data["progress"] == 0.5)
    assert progress["evaluation"] == {"done": 0, "total": 1, "fraction": 0.5}
    points = [point for event in told if event.type == "metric" for point in event.data["points"]]
    assert points == [[1, 0.5], [2, 0.25]]
    with tools.sessions() as session:
        curves = {curve.name: curve.points for curve in session.scalars(select(Curve))}
    assert curves == {"loss": [[1, 0.5], [2, 0.25]], "ssim": [[1, 0.5]]}
    assert cell(tools, id).result["psnr"] == {"mean": None}  # JSON has no infinity


@pytest.mark.parametrize(("error", "status"), [(None, "succeeded"), (AttackFailed("too few"), "failed")])
def test_the_points_since_the_last_report_are_told_before_the_end(tools, account, monkeypatch, error, status):
    evaluation_id, (id,) = make_evaluation(tools.sessions, account)

    def run(context):
        for step in (1, 2):
            context.metric("loss", step, 0.5)
        if error:
            raise error
        return finished()

    science(monkeypatch, run)
    monkeypatch.setattr(jobs, "REPORT_S", 3600.0)  # no report is due after the first
    cells.handle(tools, id)
    metric, cell, ended = events(tools, evaluation_id)[-3:]
    assert (metric.type, metric.data) == ("metric", {"cell": id, "name": "loss", "points": [[1, 0.5], [2, 0.5]]})
    assert (cell.type, cell.data["status"]) == ("cell", status)
    assert (ended.type, ended.data["status"]) == ("status", status)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DatasetMissing("put the files there"), "dataset_missing"),
        (AttackFailed("too few"), "attack_failed"),
        (ValueError("too small"), "invalid_material"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), "out_of_memory"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "out_of_memory"),
        (KeyError("secret detail"), "internal"),
    ],
)
def test_a_failing_cell_says_why_and_leaves_the_others(tools, account, monkeypatch, error, code):
    evaluation_id, (bad, good) = make_evaluation(tools.sessions, account, ("none", "fr"))

    def fail(context):
        raise error

    science(monkeypatch, fail)
    cells.handle(tools, bad)
    assert cell(tools, bad).status == "failed"
    assert cell(tools, bad).error["code"] == code
    assert "secret detail" not in json.dumps(cell(tools, bad).error)
    science(monkeypatch, lambda context: finished())
    cells.handle(tools, good)
    assert cell(tools, good).status == "succeeded"
    assert evaluation(tools, evaluation_id).status == "failed"


def test_a_missing_data_set_fails_the_cell(tools, account):
    _, (id,) = make_evaluation(tools.sessions, account, settings={"dataset": "ds_" + "0" * 32})
    cells.handle(tools, id)
    assert cell(tools, id).error["code"] == "dataset_missing"


def test_a_cancelled_cell_stops_at_its_next_word(tools, account, monkeypatch):
    evaluation_id, (id, waiting) = make_evaluation(tools.sessions, account, ("none", "fr"))

    def run(context):
        with tools.sessions.begin() as session:
            event_log.cancel(session, event_log.lock(session, evaluation_id))
        assert cell(tools, waiting).status == "cancelled"
        assert cell(tools, id).status == "cancelling"
        assert evaluation(tools, evaluation_id).status == "cancelling"
        for _ in range(1000):
            context.report(0.5, "")
            pause.wait(0.02)
        pytest.fail("it was not stopped")

    import threading

    pause = threading.Event()
    science(monkeypatch, run)
    cells.handle(tools, id)
    assert cell(tools, id).status == "cancelled"
    assert cell(tools, id).result is None
    assert evaluation(tools, evaluation_id).status == "cancelled"


def test_a_cancelled_cell_ends_at_once_though_its_work_says_nothing_for_a_while(tools, account, monkeypatch):
    evaluation_id, (id,) = make_evaluation(tools.sessions, account)

    def run(context):
        with tools.sessions.begin() as session:
            event_log.cancel(session, event_log.lock(session, evaluation_id))
        asked = time.monotonic()
        while evaluation(tools, evaluation_id).status != "cancelled":
            assert time.monotonic() < asked + 30, "it waits for the work"
            time.sleep(0.02)
        return finished()

    science(monkeypatch, run)
    cells.handle(tools, id)
    assert (cell(tools, id).status, cell(tools, id).result, count(tools, Sample)) == ("cancelled", None, 0)


def test_what_finishes_before_it_sees_the_cancel_flag_keeps_its_result(tools, account, monkeypatch):
    evaluation_id, (id,) = make_evaluation(tools.sessions, account)

    def run(context):
        with tools.sessions.begin() as session:
            event_log.cancel(session, event_log.lock(session, evaluation_id))
        return finished()

    science(monkeypatch, run)
    cells.handle(tools, id)
    assert cell(tools, id).status == "succeeded"
    assert evaluation(tools, evaluation_id).status == "succeeded"


def test_a_worker_that_lost_its_lease_writes_nothing(tools, other, account, monkeypatch):
    evaluation_id, (id,) = make_evaluation(tools.sessions, account)

    def zombie(context):
        with tools.sessions.begin() as session:
            session.execute(update(Cell).values(status=Status.QUEUED, lease_owner=None))
        science(monkeypatch, lambda context: finished(result={**RESULT, "by": "heir"}))
        cells.handle(other, id)
        return finished(result={**RESULT, "by": "zombie"})

    science(monkeypatch, zombie)
    cells.handle(tools, id)
    assert cell(tools, id).result["by"] == "heir"
    assert (count(tools, Sample), count(tools, Scores)) == (1, 1)
    assert [event.data["status"] for event in events(tools, evaluation_id) if event.type == "status"] == [
        "running", "succeeded",
    ]  # fmt: skip


def test_a_result_is_stored_whole_or_not_at_all(tools, account, monkeypatch):
    """A crash between any two lines of the last transaction leaves the cell running, for the sweeper."""
    _, (id,) = make_evaluation(tools.sessions, account)
    science(monkeypatch, lambda context: finished())
    monkeypatch.setattr(event_log, "settle", lambda session, evaluation: crash())

    class Crash(BaseException):
        pass

    def crash():
        if count(tools, Cell) and cell(tools, id).status == "running":
            raise Crash

    with pytest.raises(Crash):
        cells.handle(tools, id)
    assert cell(tools, id).status == "running"
    assert (count(tools, Sample), count(tools, Scores), count(tools, Curve)) == (0, 0, 0)


def test_the_named_key_is_used_and_a_destroyed_one_fails_the_cell(tools, account, monkeypatch):
    key_id, secret, seen = new_id("key"), new_secret(), []
    with tools.sessions.begin() as session:
        sealed = tools.ring.seal(secret, purpose="key", owner=account, id=key_id)
        session.add(Key(id=key_id, account_id=account, scheme="tanaka", params={}, status="succeeded", sealed=sealed))
    science(monkeypatch, lambda context: finished())

    def run_cell(*_, secret, **__):
        seen.append(secret)
        return finished()

    monkeypatch.setattr(cells, "run_cell", run_cell)
    scheme = {"name": "tanaka", "variant": "paper", "block": 4, "key_id": key_id}
    for destroyed in (False, True):
        with tools.sessions.begin() as session:
            if destroyed:
                session.get_one(Key, key_id).destroyed_at = func.now()
        _, (id,) = make_evaluation(tools.sessions, account, scheme=scheme)
        cells.handle(tools, id)
        assert (cell(tools, id).status, (cell(tools, id).error or {}).get("code")) == (
            ("failed", "key_unusable") if destroyed else ("succeeded", None)
        )
    assert seen == [secret]


def test_a_recovered_key_is_stored_as_a_secret(tools, account, monkeypatch):
    _, (id,) = make_evaluation(tools.sessions, account)
    science(monkeypatch, lambda context: finished(recovered={"permutation": [1, 0]}))
    cells.handle(tools, id)
    sealed = cell(tools, id).recovered
    assert b"permutation" not in sealed
    assert json.loads(tools.ring.open(sealed, purpose="recovered-key", owner=account, id=id)) == {"permutation": [1, 0]}


def test_progress_beyond_every_earlier_attempt_clears_the_stalls_and_the_same_again_does_not(
    tools, account, monkeypatch
):
    _, (id,) = make_evaluation(tools.sessions, account)
    stalls = []

    def run(context):
        context.report(0.4, "")
        stalls.append(cell(tools, id).stalls)
        context.report(0.6, "")
        stalls.append(cell(tools, id).stalls)
        return finished()

    with tools.sessions.begin() as session:
        session.execute(update(Cell).values(stalls=3, progress=0.5))
    science(monkeypatch, run)
    cells.handle(tools, id)
    assert stalls == [3, 0]


def test_a_handed_back_cell_runs_again_elsewhere(tools, other, account, monkeypatch):
    evaluation_id, (id,) = make_evaluation(tools.sessions, account)
    order = cells.claim(tools, id)
    jobs.hand_back(order)
    assert cell(tools, id).status == "queued"
    assert cell(tools, id).sent_at is not None  # rung for
    with pytest.raises(lease.LostLease):
        jobs.hand_back(order)
    science(monkeypatch, lambda context: finished())
    cells.handle(other, id)
    assert (cell(tools, id).status, cell(tools, id).attempt) == ("succeeded", 2)
    assert evaluation(tools, evaluation_id).status == "succeeded"
