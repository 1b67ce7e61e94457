"""A cell from its claim to its rows."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import func, select, update

from tests.factories import make_evaluation, make_result
from tests.jobs import run_cell
from unveil.app import broker
from unveil.app.db.ids import new_id
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Curve, Evaluation, Event, Key, Sample, Scores
from unveil.app.jobs import cancellation, event_log
from unveil.app.storage import StorageUnavailableError
from unveil.models.core.errors import AttackFailed, DoesNotApply, OutOfMemory
from unveil.models.data.image_dataset import DatasetMissing, DatasetUnreadable, ImageDataset
from unveil.models.evaluation.outcome import CellOutcome
from unveil.models.evaluation.outcome import Sample as Triple
from unveil.models.evaluation.outcome import Scores as Arrays
from unveil.models.schemes.base import new_secret
from unveil.worker import cells, jobs, lease
from unveil.worker.runtime import Runtime

RESULT = make_result(verdict="leaks", ssim=0.5, numbers={"loss": float("inf")})
IMAGE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
DATASET = ImageDataset("one", IMAGE[None], np.zeros(1, np.int64), IMAGE[None], np.zeros(1, np.int64), ("cat",))


def make_outcome(**overrides: object) -> CellOutcome:
    values: dict = {
        "result": RESULT,
        "samples": [Triple(3, 0.5, IMAGE, IMAGE, IMAGE)],
        "scores": Arrays(np.arange(2), np.array([0.4, 0.6]), np.array([9.0, np.inf]), np.array([1.0, 2.0])),
        "curves": {"ssim": [[1, 0.5]]},
    }
    return CellOutcome(**{**values, **overrides})


def replace_run_cell(monkeypatch: pytest.MonkeyPatch, run) -> None:
    """Put `run(context)` in the place of the science."""
    monkeypatch.setattr(cells, "load_dataset", lambda *_: DATASET)
    monkeypatch.setattr(jobs, "REPORT_INTERVAL_S", 0.0)
    monkeypatch.setattr(cells, "run_cell", lambda scheme, attack, data, options, context, **_: run(context))


def get_cell(runtime: Runtime, id: str) -> Cell:
    with runtime.sessions() as session:
        return session.get_one(Cell, id)


def get_evaluation(runtime: Runtime, id: str) -> Evaluation:
    with runtime.sessions() as session:
        return session.get_one(Evaluation, id)


def list_events(runtime: Runtime, evaluation_id: str) -> list[Event]:
    with runtime.sessions() as session:
        query = select(Event).where(Event.evaluation_id == evaluation_id).order_by(Event.seq)
        return list(session.scalars(query))


def count_rows(runtime: Runtime, table: type) -> int:
    with runtime.sessions() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_cell_runs_and_everything_that_came_of_it_is_stored(runtime, account):
    evaluation_id, (first, second) = make_evaluation(runtime.sessions, account, ("none", "fr"))
    run_cell(runtime, first)
    assert get_evaluation(runtime, evaluation_id).status == "running"
    run_cell(runtime, second)
    done = get_cell(runtime, first)
    assert (done.status, done.progress, done.error, done.lease_owner) == ("succeeded", 1.0, None, None)
    assert done.result["ssim"]["mode"] == "rgb7"
    assert done.result["versions"]["torch"]
    with runtime.sessions() as session:
        scores = session.get_one(Scores, first)
        samples = session.scalars(select(Sample).where(Sample.cell_id == first)).all()
    assert len(scores.ssim) == len(scores.rank) == done.result["ssim"]["n"]
    assert len(samples) == 2
    assert all(sample.protected.startswith(b"\x89PNG") for sample in samples)
    ended = get_evaluation(runtime, evaluation_id)
    assert ended.status == "succeeded"
    assert ended.finished_at >= ended.started_at
    recorded = list_events(runtime, evaluation_id)
    assert [event.seq for event in recorded] == list(range(1, ended.event_seq + 1))
    assert [event.data["status"] for event in recorded if event.type == "status"] == ["running", "succeeded"]
    assert recorded[-1].type == "status"


def test_the_same_cell_run_twice_gives_the_same_figures(runtime, account):
    results = []
    for _ in range(2):
        _, (id,) = make_evaluation(runtime.sessions, account, ("fr",))
        run_cell(runtime, id)
        result = get_cell(runtime, id).result
        del result["seconds"], result["evidence"]["effort"]["seconds"]
        results.append(result)
    assert results[0] == results[1]


def test_a_message_that_comes_twice_changes_nothing(runtime, account, monkeypatch):
    _, (id,) = make_evaluation(runtime.sessions, account)
    replace_run_cell(monkeypatch, lambda context: make_outcome())
    run_cell(runtime, id)
    before = get_cell(runtime, id)
    replace_run_cell(monkeypatch, lambda context: pytest.fail("it ran again"))
    run_cell(runtime, id)
    run_cell(runtime, "cell_" + "0" * 32)
    assert get_cell(runtime, id).finished_at == before.finished_at


def test_progress_and_metrics_become_events_and_a_curve(runtime, account, monkeypatch):
    evaluation_id, (id,) = make_evaluation(runtime.sessions, account)

    def run(context):
        context.metric("loss", 1, 0.5)
        context.report(0.5, "epoch 1 of 2")
        assert (get_cell(runtime, id).progress, get_cell(runtime, id).phase) == (0.5, "epoch 1 of 2")
        context.metric("loss", 2, 0.25)
        context.metric("loss", 3, float("nan"))
        return make_outcome()

    replace_run_cell(monkeypatch, run)
    run_cell(runtime, id)
    recorded = list_events(runtime, evaluation_id)
    progress = next(event.data for event in recorded if event.type == "progress" and event.data["progress"] == 0.5)
    assert progress["evaluation"] == {"done": 0, "total": 1, "fraction": 0.5}
    points = [point for event in recorded if event.type == "metric" for point in event.data["points"]]
    assert points == [[1, 0.5], [2, 0.25]]
    with runtime.sessions() as session:
        curves = {curve.name: curve.points for curve in session.scalars(select(Curve))}
    assert curves == {"loss": [[1, 0.5], [2, 0.25]], "ssim": [[1, 0.5]]}
    assert get_cell(runtime, id).result["numbers"] == {"loss": None}  # JSON has no infinity


def test_a_new_stage_is_written_at_once_and_steps_of_one_at_intervals(runtime, account, monkeypatch):
    _, (id,) = make_evaluation(runtime.sessions, account)

    def run(context):
        context.report(0.5, "epoch 1 of 2")
        context.report(0.9, "epoch 2 of 2")
        assert get_cell(runtime, id).phase == "epoch 1 of 2"
        context.report(0.9, "reconstructing 0 of 16")
        assert (get_cell(runtime, id).phase, get_cell(runtime, id).progress) == ("reconstructing 0 of 16", 0.9)
        return make_outcome()

    replace_run_cell(monkeypatch, run)
    monkeypatch.setattr(jobs, "REPORT_INTERVAL_S", 3600.0)
    run_cell(runtime, id)
    assert get_cell(runtime, id).status == "succeeded"


@pytest.mark.parametrize(("error", "status"), [(None, "succeeded"), (AttackFailed("too few"), "failed")])
def test_the_points_since_the_last_report_are_written_before_the_end(runtime, account, monkeypatch, error, status):
    evaluation_id, (id,) = make_evaluation(runtime.sessions, account)

    def run(context):
        for step in (1, 2):
            context.metric("loss", step, 0.5)
        if error:
            raise error
        return make_outcome()

    replace_run_cell(monkeypatch, run)
    monkeypatch.setattr(jobs, "REPORT_INTERVAL_S", 3600.0)  # no report is due after the first
    run_cell(runtime, id)
    metric, cell, ended = list_events(runtime, evaluation_id)[-3:]
    assert (metric.type, metric.data) == ("metric", {"cell": id, "name": "loss", "points": [[1, 0.5], [2, 0.5]]})
    assert (cell.type, cell.data["status"]) == ("cell", status)
    assert (ended.type, ended.data["status"]) == ("status", status)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DatasetMissing("put the files there"), "dataset_missing"),
        (DatasetUnreadable("'cat/9.png' is empty"), "dataset_unreadable"),
        (StorageUnavailableError(), "storage_away"),
        (PermissionError(13, "no entry", "/data/secret"), "internal"),  # not of the blob store
        (AttackFailed("too few"), "attack_failed"),
        (ValueError("too small"), "invalid_material"),
        (OutOfMemory("2 images per step need more than 1 GB"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), "out_of_memory"),
        (RuntimeError("could not create a primitive"), "out_of_memory"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "out_of_memory"),
        (KeyError("secret detail"), "internal"),
    ],
)
def test_a_failing_cell_states_the_reason_and_leaves_the_others(runtime, account, monkeypatch, error, code):
    evaluation_id, (bad, good) = make_evaluation(runtime.sessions, account, ("none", "fr"))

    def fail(context):
        raise error

    replace_run_cell(monkeypatch, fail)
    run_cell(runtime, bad)
    assert get_cell(runtime, bad).status == "failed"
    assert get_cell(runtime, bad).error["code"] == code
    assert "secret detail" not in json.dumps(get_cell(runtime, bad).error)
    replace_run_cell(monkeypatch, lambda context: make_outcome())
    run_cell(runtime, good)
    assert get_cell(runtime, good).status == "succeeded"
    assert get_evaluation(runtime, evaluation_id).status == "failed"


@pytest.mark.parametrize(
    ("error", "code", "detail"),
    [
        (DoesNotApply("no key is consistent with the pairs"), "not_applicable", "no key is consistent with the pairs"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "missing_dependency", "install unveil[torch]"),
    ],
)
def test_an_attack_that_does_not_fit_or_lacks_its_library_does_not_fail_the_evaluation(
    runtime, account, monkeypatch, error, code, detail
):
    evaluation_id, (id,) = make_evaluation(runtime.sessions, account)

    def refuse(context):
        raise error

    replace_run_cell(monkeypatch, refuse)
    run_cell(runtime, id)
    cell = get_cell(runtime, id)
    assert (cell.status, cell.error) == ("not_applicable", {"code": code, "detail": detail})
    assert get_evaluation(runtime, evaluation_id).status == "succeeded"


def test_a_missing_dataset_fails_the_cell(runtime, account):
    _, (id,) = make_evaluation(runtime.sessions, account, settings={"dataset": "ds_" + "0" * 32})
    run_cell(runtime, id)
    assert get_cell(runtime, id).error["code"] == "dataset_missing"


def test_a_cancelled_cell_stops_at_its_next_word(runtime, account, monkeypatch):
    evaluation_id, (id, waiting) = make_evaluation(runtime.sessions, account, ("none", "fr"))

    def run(context):
        with runtime.sessions.begin() as session:
            cancellation.cancel_evaluation(session, event_log.lock_evaluation(session, evaluation_id))
        assert get_cell(runtime, waiting).status == "cancelled"
        assert get_cell(runtime, id).status == "cancelling"
        assert get_evaluation(runtime, evaluation_id).status == "cancelling"
        for _ in range(3000):
            context.report(0.5, "")
            pause.wait(0.02)
        pytest.fail("it was not stopped")

    import threading

    pause = threading.Event()
    replace_run_cell(monkeypatch, run)
    run_cell(runtime, id)
    assert get_cell(runtime, id).status == "cancelled"
    assert get_cell(runtime, id).result is None
    assert get_evaluation(runtime, evaluation_id).status == "cancelled"


def test_a_cancelled_cell_ends_at_once_even_if_its_work_reports_no_progress(runtime, account, monkeypatch):
    evaluation_id, (id,) = make_evaluation(runtime.sessions, account)

    def run(context):
        with runtime.sessions.begin() as session:
            cancellation.cancel_evaluation(session, event_log.lock_evaluation(session, evaluation_id))
        asked = time.monotonic()
        while get_evaluation(runtime, evaluation_id).status != "cancelled":
            assert time.monotonic() < asked + 120, "it waits for the work"
            time.sleep(0.02)
        return make_outcome()

    replace_run_cell(monkeypatch, run)
    run_cell(runtime, id)
    assert (get_cell(runtime, id).status, get_cell(runtime, id).result, count_rows(runtime, Sample)) == (
        "cancelled",
        None,
        0,
    )


def test_what_finishes_before_it_sees_the_cancel_flag_keeps_its_result(runtime, account, monkeypatch):
    evaluation_id, (id,) = make_evaluation(runtime.sessions, account)

    def run(context):
        with runtime.sessions.begin() as session:
            cancellation.cancel_evaluation(session, event_log.lock_evaluation(session, evaluation_id))
        return make_outcome()

    replace_run_cell(monkeypatch, run)
    run_cell(runtime, id)
    assert get_cell(runtime, id).status == "succeeded"
    assert get_evaluation(runtime, evaluation_id).status == "succeeded"


def test_a_worker_that_lost_its_lease_writes_nothing(runtime, other_runtime, account, monkeypatch):
    evaluation_id, (id,) = make_evaluation(runtime.sessions, account)

    def zombie(context):
        with runtime.sessions.begin() as session:
            session.execute(update(Cell).values(status=Status.QUEUED, lease_owner=None))
        replace_run_cell(monkeypatch, lambda context: make_outcome(result=replace(RESULT, device="heir")))
        run_cell(other_runtime, id)
        return make_outcome(result=replace(RESULT, device="zombie"))

    replace_run_cell(monkeypatch, zombie)
    run_cell(runtime, id)
    assert get_cell(runtime, id).result["device"] == "heir"
    assert (count_rows(runtime, Sample), count_rows(runtime, Scores)) == (1, 1)
    assert [event.data["status"] for event in list_events(runtime, evaluation_id) if event.type == "status"] == [
        "running", "succeeded",
    ]  # fmt: skip


def test_a_result_is_stored_whole_or_not_at_all(runtime, account, monkeypatch):
    """A crash between any two lines of the last transaction leaves the cell running, for the sweeper."""
    _, (id,) = make_evaluation(runtime.sessions, account)
    replace_run_cell(monkeypatch, lambda context: make_outcome())
    monkeypatch.setattr(event_log, "finish_if_complete", lambda session, evaluation: crash())

    class Crash(BaseException):
        pass

    def crash():
        if count_rows(runtime, Cell) and get_cell(runtime, id).status == "running":
            raise Crash

    with pytest.raises(Crash):
        run_cell(runtime, id)
    assert get_cell(runtime, id).status == "running"
    assert (count_rows(runtime, Sample), count_rows(runtime, Scores), count_rows(runtime, Curve)) == (0, 0, 0)


def test_the_named_key_is_used_and_a_destroyed_one_fails_the_cell(runtime, account, monkeypatch):
    key_id, secret, seen = new_id("key"), new_secret(), []
    with runtime.sessions.begin() as session:
        sealed = runtime.keyring.seal(secret, purpose="key", owner=account, id=key_id)
        session.add(
            Key(id=key_id, account_id=account, scheme="tanaka", params={}, status="succeeded", encrypted_secret=sealed)
        )
    replace_run_cell(monkeypatch, lambda context: make_outcome())

    def record_secret(*_, secret, **__):
        seen.append(secret)
        return make_outcome()

    monkeypatch.setattr(cells, "run_cell", record_secret)
    scheme = {"name": "tanaka", "variant": "paper", "block": 4, "key_id": key_id}
    for destroyed in (False, True):
        with runtime.sessions.begin() as session:
            if destroyed:
                session.get_one(Key, key_id).destroyed_at = func.now()
        _, (id,) = make_evaluation(runtime.sessions, account, scheme=scheme)
        run_cell(runtime, id)
        assert (get_cell(runtime, id).status, (get_cell(runtime, id).error or {}).get("code")) == (
            ("failed", "key_unusable") if destroyed else ("succeeded", None)
        )
    assert seen == [secret]


def test_progress_beyond_every_earlier_attempt_clears_the_stalls_and_the_same_again_does_not(
    runtime, account, monkeypatch
):
    _, (id,) = make_evaluation(runtime.sessions, account)
    stalls = []

    def run(context):
        context.report(0.4, "")
        stalls.append(get_cell(runtime, id).attempts_without_progress)
        context.report(0.6, "")
        stalls.append(get_cell(runtime, id).attempts_without_progress)
        return make_outcome()

    with runtime.sessions.begin() as session:
        session.execute(update(Cell).values(attempts_without_progress=3, progress=0.5))
    replace_run_cell(monkeypatch, run)
    run_cell(runtime, id)
    assert stalls == [3, 0]


def test_a_handed_back_cell_runs_again_elsewhere(runtime, other_runtime, account, monkeypatch):
    evaluation_id, (id,) = make_evaluation(runtime.sessions, account)
    order = cells.claim(runtime, id)
    jobs.release(order)
    assert get_cell(runtime, id).status == "queued"
    assert broker.count_job_messages(runtime.celery) == 1
    with pytest.raises(lease.LeaseLost):
        jobs.release(order)
    replace_run_cell(monkeypatch, lambda context: make_outcome())
    run_cell(other_runtime, id)
    assert (get_cell(runtime, id).status, get_cell(runtime, id).attempt) == ("succeeded", 2)
    assert get_evaluation(runtime, evaluation_id).status == "succeeded"
