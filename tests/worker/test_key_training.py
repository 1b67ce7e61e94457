"""A key from its order to its weights, alone and for an evaluation."""

from __future__ import annotations

import threading

import pytest
import torch
from sqlalchemy import func, select, update

from tests.factories import make_evaluation, make_key_to_train
from tests.trained import teach
from unveil.app import broker
from unveil.app.db.ids import new_id
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Evaluation, Event, Key
from unveil.app.jobs import event_log
from unveil.app.ops.storage_gc import find_orphans
from unveil.models.core import checkpoints
from unveil.models.core.errors import AttackFailed
from unveil.worker import cells, jobs, key_loading, key_training, sweeper
from unveil.worker.runtime import Runtime


@pytest.fixture(autouse=True)
def scheme(monkeypatch):
    teach(monkeypatch)
    monkeypatch.setattr(jobs, "REPORT_S", 0.0)


def ordered(tools: Runtime, account: str, **changed) -> str:
    return make_key_to_train(tools.sessions, tools.ring, account, **changed)


def for_evaluation(tools: Runtime, account: str, attacks=("none", "fr")) -> tuple[str, str, list[str]]:
    """A key to train, the evaluation it is for, and the cells that wait for it."""
    id = new_id("key")
    scheme = {"name": "tn-shift", "epochs": 2, "key_id": id}
    evaluation_id, ids = make_evaluation(tools.sessions, account, attacks, scheme=scheme)
    return ordered(tools, account, evaluation_id=evaluation_id, id=id), evaluation_id, ids


def row(tools: Runtime, table: type, id: str):
    with tools.sessions() as session:
        return session.get_one(table, id)


def key(tools: Runtime, id: str) -> Key:
    return row(tools, Key, id)


def statuses(tools: Runtime, ids: list[str]) -> list[str]:
    return [row(tools, Cell, id).status for id in ids]


def fall_silent(tools: Runtime) -> None:
    with tools.sessions.begin() as session:
        session.execute(
            update(Key).values(lease_until=func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, 1))
        )


def sweep(tools: Runtime) -> None:
    sweeper.sweep(tools.sessions, tools.celery, tools.settings)


def orphans(tools: Runtime) -> list[str]:
    with tools.sessions() as session:
        return list(find_orphans(session, tools.blobs, older_than_s=-1))


def test_a_key_is_trained_sealed_and_told_of(tools, account):
    id = ordered(tools, account)
    key_training.handle(tools, id)
    done = key(tools, id)
    assert (done.status, done.progress, done.error, done.lease_owner) == ("succeeded", 1.0, None, None)
    assert done.provenance == {"data": "sample", "loss": None}  # JSON has no NaN
    weights = key_loading.secret(tools, done)
    assert weights[:1] == b"w"
    assert weights not in tools.blobs.read(done.blob)
    assert list(tools.blobs.names("checkpoints")) == orphans(tools) == []
    key_training.handle(tools, id)  # a message that comes twice
    assert key(tools, id).attempt == 1


def test_a_seed_that_nobody_named_is_drawn_lasts_and_is_told_to_nobody(tools, account, monkeypatch):
    seeds: list[int] = []

    def learn(context):
        seeds.append(context.seed)
        if len(seeds) == 1:
            raise ConnectionError("another worker takes it up")

    teach(monkeypatch, learn)
    first, second = ordered(tools, account, seed=None), ordered(tools, account, seed=None)
    key_training.handle(tools, first)
    with tools.sessions.begin() as session:  # under another master key meanwhile
        named = {"purpose": "key", "owner": account, "id": first}
        session.execute(
            update(Key).where(Key.id == first).values(sealed=tools.ring.rewrap(key(tools, first).sealed, **named))
        )
        session.execute(update(Key).where(Key.id == first).values(status="queued", error=None, finished_at=None))
    key_training.handle(tools, first)
    key_training.handle(tools, second)
    assert seeds[0] == seeds[1] != seeds[2]
    assert min(seeds) > 2**32
    done = key(tools, first)
    assert done.status == "succeeded"
    assert done.provenance["seed"] is None
    assert str(seeds[0]) not in str({name: value for name, value in vars(done).items() if name != "_sa_instance_state"})


def test_the_weights_open_for_their_own_key_only(tools, account):
    first, second = ordered(tools, account), ordered(tools, account)
    key_training.handle(tools, first)
    key_training.handle(tools, second)
    with tools.sessions.begin() as session:
        session.execute(update(Key).where(Key.id == second).values(blob=key(tools, first).blob))
    with pytest.raises(Exception, match=second):
        key_loading.secret(tools, key(tools, second))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AttackFailed("too few images"), "training_failed"),
        (MemoryError(), "out_of_memory"),
        (KeyError("secret detail"), "internal"),
    ],
)
def test_a_training_that_fails_says_why_and_leaves_no_weights(tools, account, monkeypatch, error, code):
    def fail(context):
        raise error

    teach(monkeypatch, fail)
    id = ordered(tools, account)
    key_training.handle(tools, id)
    failed = key(tools, id)
    assert (failed.status, failed.error["code"], failed.blob) == ("failed", code, None)
    assert "secret detail" not in failed.error["detail"]
    assert list(tools.blobs.names("keys")) == []


def test_a_cancelled_training_stops_at_its_next_word(tools, account, monkeypatch):
    def cancel(context):
        with tools.sessions.begin() as session:
            session.execute(update(Key).values(status=Status.CANCELLING))
        pause = threading.Event()
        for _ in range(200):
            context.report(1.0, "")
            pause.wait(0.02)
        pytest.fail("it was not stopped")

    teach(monkeypatch, cancel)
    id = ordered(tools, account)
    key_training.handle(tools, id)
    assert (key(tools, id).status, key(tools, id).blob) == ("cancelled", None)
    assert list(tools.blobs.names("checkpoints")) == []


def test_a_worker_that_lost_its_lease_changes_nothing(tools, other, account, monkeypatch):
    id = ordered(tools, account)

    def zombie(context):
        with tools.sessions.begin() as session:
            session.execute(update(Key).values(status=Status.QUEUED, lease_owner=None))
        teach(monkeypatch)
        key_training.handle(other, id)

    teach(monkeypatch, zombie)
    key_training.handle(tools, id)
    assert (key(tools, id).attempt, key(tools, id).blob) == (2, f"keys/{id}.2")
    assert list(tools.blobs.names("keys")) == [f"keys/{id}.2"]


def test_a_crash_between_the_weights_and_their_row_costs_an_attempt_and_is_cleared(tools, account, monkeypatch):
    class Crash(BaseException):
        pass

    def crash(*_):
        raise Crash

    id = ordered(tools, account)
    monkeypatch.setattr(jobs, "_store", crash)
    with pytest.raises(Crash):
        key_training.handle(tools, id)
    assert (key(tools, id).status, orphans(tools)) == ("running", [])  # of a training that goes on
    monkeypatch.undo()
    teach(monkeypatch)
    fall_silent(tools)
    sweep(tools)
    assert (key(tools, id).status, key(tools, id).stalls) == ("queued", 1)
    assert broker.waiting(tools.celery, broker.TRAIN_KEY) == 1
    key_training.handle(tools, id)
    assert key(tools, id).status == "succeeded"
    assert orphans(tools) == [f"keys/{id}.1"]


def test_a_networks_checkpoints_are_sealed_for_its_job_alone_and_lost_with_its_end(tools, other, account, monkeypatch):
    kept = {}

    def look(context):
        checkpoints.save(context.checkpoints, "network.ckpt", {"weights": torch.arange(64.0)})
        kept["sealed"] = tools.blobs.read(f"checkpoints/{id}/network.ckpt")
        kept["attempts"] = kept.get("attempts", 0) + 1
        if kept["attempts"] == 1:
            raise KeyboardInterrupt

    def goes_on(context):
        kept["loaded"] = checkpoints.load(context.checkpoints, "network.ckpt")
        look(context)

    id, another = ordered(tools, account), ordered(tools, account)
    teach(monkeypatch, look)
    with pytest.raises(KeyboardInterrupt):
        key_training.handle(tools, id)
    assert torch.arange(64.0).numpy().tobytes()[100:140] not in kept["sealed"]
    fall_silent(tools)
    sweep(tools)
    teach(monkeypatch, goes_on)
    lock = key(tools, id).checkpoint_lock
    key_training.handle(other, id)
    assert torch.equal(kept["loaded"]["weights"], torch.arange(64.0))
    assert key(tools, id).checkpoint_lock is None, "what a copy of the disk holds opens no more"
    stranger = key_training.claim(tools, another)
    tools.blobs.write(f"checkpoints/{another}/network.ckpt", kept["sealed"])
    assert stranger.context(jobs.Reporter(stranger, None), 0).checkpoints.read("network.ckpt") is None
    assert tools.ring.open(lock + kept["sealed"], purpose="checkpoints", owner=account, id=id)


def test_a_training_that_never_gets_further_is_poison(tools, account):
    id = ordered(tools, account)
    for _ in range(tools.settings.max_stalls):
        key_training.claim(tools, id)
        fall_silent(tools)
        sweep(tools)
    assert (key(tools, id).status, key(tools, id).error["code"]) == ("failed", "poison")
    assert key_training.claim(tools, id) is None
    sweep(tools)
    assert key(tools, id).checkpoint_lock is None


def test_a_training_handed_back_goes_on_elsewhere(tools, other, account):
    id = ordered(tools, account)
    jobs.hand_back(key_training.claim(tools, id))
    assert (key(tools, id).status, key(tools, id).stalls) == ("queued", 0)
    assert broker.waiting(tools.celery, broker.TRAIN_KEY) == 1
    key_training.handle(other, id)
    assert key(tools, id).status == "succeeded"


def test_the_sweeper_clears_what_crashes_left_of_ended_jobs_and_destroyed_keys(tools, account):
    done, waiting = ordered(tools, account), ordered(tools, account)
    key_training.handle(tools, done)
    blob = key(tools, done).blob
    for id in (done, waiting):
        tools.blobs.write(f"checkpoints/{id}/network.ckpt", b"half a training")
    with tools.sessions.begin() as session:
        session.execute(update(Key).where(Key.id == done).values(destroyed_at=func.clock_timestamp(), sealed=None))
    sweep(tools)
    assert not tools.blobs.exists(blob)
    assert key(tools, done).blob is None
    assert list(tools.blobs.names("checkpoints")) == [f"checkpoints/{waiting}"]


# --- for an evaluation ------------------------------------------------------------------------------------------


def test_cells_wait_for_their_key_and_share_it(tools, account, monkeypatch):
    id, evaluation_id, ids = for_evaluation(tools, account)
    assert cells.claim(tools, ids[0]) is None
    sweep(tools)
    assert broker.waiting(tools.celery, broker.RUN_CELL) == 1  # the key alone
    key_training.handle(tools, id)
    assert broker.waiting(tools.celery, broker.RUN_CELL) == 3
    secrets = []

    def run_cell(*_, secret, **__):
        secrets.append(secret)
        raise AttackFailed("enough")

    monkeypatch.setattr(cells, "run_cell", run_cell)
    for cell in ids:
        cells.handle(tools, cell)
    assert secrets == [key_loading.secret(tools, key(tools, id))] * 2
    with tools.sessions.begin() as session:
        session.delete(session.get_one(Evaluation, evaluation_id))
    assert (key(tools, id).status, key(tools, id).evaluation_id) == ("succeeded", None)


def test_when_the_key_is_there_the_cells_of_seconds_come_first(tools, account, monkeypatch):
    id, _, ids = for_evaluation(tools, account, ("itn", "none"))
    rung = []
    monkeypatch.setattr(broker, "ring", lambda celery, task, *ids: rung.extend(ids))
    key_training.handle(tools, id)
    assert rung == [ids[1], ids[0]]


def test_the_evaluation_tells_of_its_keys_training(tools, account):
    id, evaluation_id, _ = for_evaluation(tools, account)
    key_training.handle(tools, id)
    with tools.sessions() as session:
        evaluation = session.get_one(Evaluation, evaluation_id)
        told = session.scalars(select(Event).where(Event.evaluation_id == evaluation_id).order_by(Event.seq)).all()
    assert (evaluation.status, evaluation.started_at is not None) == ("running", True)
    progress = [event.data for event in told if event.type == "progress"]
    assert {event["key"] for event in progress} == {id}
    half = next(event for event in progress if event["phase"] == "epoch 1 of 2")
    assert half["evaluation"] == {"done": 0, "total": 2, "fraction": round(20 * 0.5 / (20 + 1 + 1), 4)}  # weighted
    assert progress[-1]["status"] == "succeeded"
    metrics = [event.data for event in told if event.type == "metric"]
    assert (metrics[0]["key"], metrics[0]["name"], metrics[0]["points"]) == (id, "loss", [[1, 1.0]])


def test_a_key_that_cannot_be_trained_fails_the_cells_that_wait_for_it(tools, account, monkeypatch):
    def fail(context):
        raise AttackFailed("the loss is no number")

    teach(monkeypatch, fail)
    id, evaluation_id, ids = for_evaluation(tools, account)
    key_training.handle(tools, id)
    assert statuses(tools, ids) == ["failed", "failed"]
    error = row(tools, Cell, ids[0]).error
    assert error["code"] == "key_unusable"
    assert "the loss is no number" in error["detail"]
    assert row(tools, Evaluation, evaluation_id).status == "failed"


def test_a_key_given_up_as_poison_fails_its_cells(tools, account):
    id, evaluation_id, ids = for_evaluation(tools, account)
    for _ in range(tools.settings.max_stalls):
        key_training.claim(tools, id)
        fall_silent(tools)
        sweep(tools)
    assert statuses(tools, ids) == ["failed", "failed"]
    assert row(tools, Evaluation, evaluation_id).status == "failed"


def cancel(tools: Runtime, evaluation_id: str) -> None:
    with tools.sessions.begin() as session:
        event_log.cancel(session, event_log.lock(session, evaluation_id))


def test_a_cancelled_evaluation_cancels_the_key_that_is_made_for_it(tools, account):
    id, evaluation_id, ids = for_evaluation(tools, account)
    cancel(tools, evaluation_id)
    assert (key(tools, id).status, statuses(tools, ids)) == ("cancelled", ["cancelled", "cancelled"])
    assert row(tools, Evaluation, evaluation_id).status == "cancelled"


def test_an_evaluation_is_cancelling_until_its_training_has_stopped(tools, account):
    id, evaluation_id, ids = for_evaluation(tools, account)
    held = key_training.claim(tools, id)
    cancel(tools, evaluation_id)
    assert (key(tools, id).status, statuses(tools, ids)) == ("cancelling", ["cancelled", "cancelled"])
    sweep(tools)
    assert row(tools, Evaluation, evaluation_id).status == "cancelling"
    jobs.hand_back(held)
    assert key(tools, id).status == "cancelled"
    assert row(tools, Evaluation, evaluation_id).status == "cancelled"
