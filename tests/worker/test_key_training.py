"""A key from its order to its weights, alone and for an evaluation."""

from __future__ import annotations

import threading

import pytest
import torch
from sqlalchemy import func, select, update

from tests.factories import make_evaluation, make_key_to_train
from tests.jobs import run_cell, train_key
from tests.trained import register_scheme
from unveil.app import broker
from unveil.app.db.ids import new_id
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, Evaluation, Event, Key
from unveil.app.jobs import cancellation, event_log
from unveil.app.ops.storage_gc import find_orphaned_blobs
from unveil.models.core import checkpoints
from unveil.models.core.errors import AttackFailed, OutOfMemory
from unveil.worker import cells, jobs, key_loading, key_training, sweeper
from unveil.worker.runtime import Runtime


@pytest.fixture(autouse=True)
def scheme(monkeypatch):
    register_scheme(monkeypatch)
    monkeypatch.setattr(jobs, "REPORT_INTERVAL_S", 0.0)


def create_key(runtime: Runtime, account: str, **changed) -> str:
    return make_key_to_train(runtime.sessions, runtime.keyring, account, **changed)


def create_key_for_evaluation(runtime: Runtime, account: str, attacks=("none", "fr")) -> tuple[str, str, list[str]]:
    """A key to train, the evaluation it is for, and the cells that wait for it."""
    id = new_id("key")
    scheme = {"name": "tn-shift", "epochs": 2, "key_id": id}
    evaluation_id, ids = make_evaluation(runtime.sessions, account, attacks, scheme=scheme)
    return create_key(runtime, account, evaluation_id=evaluation_id, id=id), evaluation_id, ids


def get_row(runtime: Runtime, table: type, id: str):
    with runtime.sessions() as session:
        return session.get_one(table, id)


def get_key(runtime: Runtime, id: str) -> Key:
    return get_row(runtime, Key, id)


def cell_statuses(runtime: Runtime, ids: list[str]) -> list[str]:
    return [get_row(runtime, Cell, id).status for id in ids]


def expire_key_leases(runtime: Runtime) -> None:
    with runtime.sessions.begin() as session:
        session.execute(
            update(Key).values(lease_until=func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, 1))
        )


def run_sweep(runtime: Runtime) -> None:
    sweeper.sweep(runtime.sessions, runtime.celery, runtime.settings)


def list_orphans(runtime: Runtime) -> list[str]:
    with runtime.sessions() as session:
        return list(find_orphaned_blobs(session, runtime.blobs, older_than_s=-1))


def test_a_key_is_trained_encrypted_and_announced_by_events(runtime, account):
    id = create_key(runtime, account)
    train_key(runtime, id)
    done = get_key(runtime, id)
    assert (done.status, done.progress, done.error, done.lease_owner) == ("succeeded", 1.0, None, None)
    assert done.provenance == {"data": "sample", "loss": None}  # JSON has no NaN
    weights = key_loading.decrypt_secret(runtime, done)
    assert weights[:1] == b"w"
    assert weights not in runtime.blobs.read(done.weights_blob)
    assert list(runtime.blobs.list_folder("checkpoints")) == list_orphans(runtime) == []
    train_key(runtime, id)  # a message that comes twice
    assert get_key(runtime, id).attempt == 1


def test_a_seed_that_was_not_given_is_drawn_kept_and_never_returned(runtime, account, monkeypatch):
    seeds: list[int] = []

    def learn(context):
        seeds.append(context.seed)
        if len(seeds) == 1:
            raise ConnectionError("another worker takes it up")

    register_scheme(monkeypatch, learn)
    first, second = create_key(runtime, account, seed=None), create_key(runtime, account, seed=None)
    train_key(runtime, first)
    with runtime.sessions.begin() as session:  # under another master key meanwhile
        envelope_context = {"purpose": "key", "owner": account, "id": first}
        session.execute(
            update(Key)
            .where(Key.id == first)
            .values(wrapped_key=runtime.keyring.rewrap(get_key(runtime, first).wrapped_key, **envelope_context))
        )
        session.execute(update(Key).where(Key.id == first).values(status="queued", error=None, finished_at=None))
    train_key(runtime, first)
    train_key(runtime, second)
    assert seeds[0] == seeds[1] != seeds[2]
    assert min(map(abs, seeds)) > 2**200  # of 256 bits
    done = get_key(runtime, first)
    assert done.status == "succeeded"
    assert done.provenance["seed"] is None
    assert str(seeds[0]) not in str({name: value for name, value in vars(done).items() if name != "_sa_instance_state"})


def test_the_weights_open_for_their_own_key_only(runtime, account):
    first, second = create_key(runtime, account), create_key(runtime, account)
    train_key(runtime, first)
    train_key(runtime, second)
    with runtime.sessions.begin() as session:
        session.execute(update(Key).where(Key.id == second).values(weights_blob=get_key(runtime, first).weights_blob))
    with pytest.raises(Exception, match=second):
        key_loading.decrypt_secret(runtime, get_key(runtime, second))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AttackFailed("too few images"), "training_failed"),
        (OutOfMemory("2 images per step need more than 1 GB"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (KeyError("secret detail"), "internal"),
    ],
)
def test_a_failed_training_states_the_reason_and_leaves_no_weights(runtime, account, monkeypatch, error, code):
    def fail(context):
        raise error

    register_scheme(monkeypatch, fail)
    id = create_key(runtime, account)
    train_key(runtime, id)
    failed = get_key(runtime, id)
    assert (failed.status, failed.error["code"], failed.weights_blob) == ("failed", code, None)
    assert "secret detail" not in failed.error["detail"]
    assert list(runtime.blobs.list_folder("keys")) == []


def test_a_cancelled_training_stops_at_its_next_word(runtime, account, monkeypatch):
    def cancel(context):
        with runtime.sessions.begin() as session:
            session.execute(update(Key).values(status=Status.CANCELLING))
        pause = threading.Event()
        for _ in range(3000):
            context.report(1.0, "")
            pause.wait(0.02)
        pytest.fail("it was not stopped")

    register_scheme(monkeypatch, cancel)
    id = create_key(runtime, account)
    train_key(runtime, id)
    assert (get_key(runtime, id).status, get_key(runtime, id).weights_blob) == ("cancelled", None)
    assert list(runtime.blobs.list_folder("checkpoints")) == []


def test_a_worker_that_lost_its_lease_changes_nothing(runtime, other_runtime, account, monkeypatch):
    id = create_key(runtime, account)

    def zombie(context):
        with runtime.sessions.begin() as session:
            session.execute(update(Key).values(status=Status.QUEUED, lease_owner=None))
        register_scheme(monkeypatch)
        train_key(other_runtime, id)

    register_scheme(monkeypatch, zombie)
    train_key(runtime, id)
    assert (get_key(runtime, id).attempt, get_key(runtime, id).weights_blob) == (2, f"keys/{id}.2")
    assert list(runtime.blobs.list_folder("keys")) == [f"keys/{id}.2"]


def test_a_crash_between_the_weights_and_their_row_costs_an_attempt_and_is_cleared(runtime, account, monkeypatch):
    class Crash(BaseException):
        pass

    def crash(*_):
        raise Crash

    id = create_key(runtime, account)
    monkeypatch.setattr(jobs, "_store_outcome", crash)
    with pytest.raises(Crash):
        train_key(runtime, id)
    assert (get_key(runtime, id).status, list_orphans(runtime)) == ("running", [])  # of a training that goes on
    monkeypatch.undo()
    register_scheme(monkeypatch)
    expire_key_leases(runtime)
    run_sweep(runtime)
    assert (get_key(runtime, id).status, get_key(runtime, id).attempts_without_progress) == ("queued", 1)
    assert broker.count_job_messages(runtime.celery) == 1
    train_key(runtime, id)
    assert get_key(runtime, id).status == "succeeded"
    assert list_orphans(runtime) == [f"keys/{id}.1"]


def test_a_networks_checkpoints_are_sealed_for_its_job_alone_and_lost_with_its_end(
    runtime, other_runtime, account, monkeypatch
):
    recorded = {}

    def record(context):
        checkpoints.save(context.checkpoints, "network.ckpt", {"weights": torch.arange(64.0)})
        recorded["sealed"] = runtime.blobs.read(f"checkpoints/{id}/network.ckpt")
        recorded["attempts"] = recorded.get("attempts", 0) + 1
        if recorded["attempts"] == 1:
            raise KeyboardInterrupt

    def goes_on(context):
        recorded["loaded"] = checkpoints.load(context.checkpoints, "network.ckpt")
        record(context)

    id, another = create_key(runtime, account), create_key(runtime, account)
    register_scheme(monkeypatch, record)
    with pytest.raises(KeyboardInterrupt):
        train_key(runtime, id)
    assert torch.arange(64.0).numpy().tobytes()[100:140] not in recorded["sealed"]
    expire_key_leases(runtime)
    run_sweep(runtime)
    register_scheme(monkeypatch, goes_on)
    wrapped_key = get_key(runtime, id).checkpoint_wrapped_key
    train_key(other_runtime, id)
    assert torch.equal(recorded["loaded"]["weights"], torch.arange(64.0))
    assert get_key(runtime, id).checkpoint_wrapped_key is None, "what a copy of the disk holds opens no more"
    stranger = key_training.claim(runtime, another)
    runtime.blobs.write(f"checkpoints/{another}/network.ckpt", recorded["sealed"])
    assert stranger.run_context(jobs.Reporter(stranger, None), 0).checkpoints.read("network.ckpt") is None
    assert runtime.keyring.open(wrapped_key + recorded["sealed"], purpose="checkpoints", owner=account, id=id)


def test_a_training_that_never_gets_further_is_poison(runtime, account):
    id = create_key(runtime, account)
    for _ in range(runtime.settings.max_attempts_without_progress):
        key_training.claim(runtime, id)
        expire_key_leases(runtime)
        run_sweep(runtime)
    assert (get_key(runtime, id).status, get_key(runtime, id).error["code"]) == ("failed", "poison")
    assert key_training.claim(runtime, id) is None
    run_sweep(runtime)
    assert get_key(runtime, id).checkpoint_wrapped_key is None


def test_a_training_handed_back_goes_on_elsewhere(runtime, other_runtime, account):
    id = create_key(runtime, account)
    jobs.release(key_training.claim(runtime, id))
    assert (get_key(runtime, id).status, get_key(runtime, id).attempts_without_progress) == ("queued", 0)
    assert broker.count_job_messages(runtime.celery) == 1
    train_key(other_runtime, id)
    assert get_key(runtime, id).status == "succeeded"


def test_the_sweeper_clears_what_crashes_left_of_ended_jobs_and_destroyed_keys(runtime, account):
    done, waiting = create_key(runtime, account), create_key(runtime, account)
    train_key(runtime, done)
    blob = get_key(runtime, done).weights_blob
    for id in (done, waiting):
        runtime.blobs.write(f"checkpoints/{id}/network.ckpt", b"half a training")
    with runtime.sessions.begin() as session:
        session.execute(update(Key).where(Key.id == done).values(destroyed_at=func.clock_timestamp(), wrapped_key=None))
    run_sweep(runtime)
    assert not runtime.blobs.exists(blob)
    assert get_key(runtime, done).weights_blob is None
    assert list(runtime.blobs.list_folder("checkpoints")) == [f"checkpoints/{waiting}"]


# --- for an evaluation ------------------------------------------------------------------------------------------


def test_cells_wait_for_their_key_and_share_it(runtime, account, monkeypatch):
    id, evaluation_id, ids = create_key_for_evaluation(runtime, account)
    assert cells.claim(runtime, ids[0]) is None
    run_sweep(runtime)
    assert broker.count_job_messages(runtime.celery) == 1  # the key alone
    train_key(runtime, id)
    assert broker.count_job_messages(runtime.celery) == 3
    secrets = []

    def record_secret(*_, secret, **__):
        secrets.append(secret)
        raise AttackFailed("enough")

    monkeypatch.setattr(cells, "run_cell", record_secret)
    for cell in ids:
        run_cell(runtime, cell)
    assert secrets == [key_loading.decrypt_secret(runtime, get_key(runtime, id))] * 2
    with runtime.sessions.begin() as session:
        session.delete(session.get_one(Evaluation, evaluation_id))
    assert (get_key(runtime, id).status, get_key(runtime, id).evaluation_id) == ("succeeded", None)


def test_the_evaluation_tells_of_its_keys_training(runtime, account):
    id, evaluation_id, _ = create_key_for_evaluation(runtime, account)
    train_key(runtime, id)
    with runtime.sessions() as session:
        evaluation = session.get_one(Evaluation, evaluation_id)
        recorded = session.scalars(select(Event).where(Event.evaluation_id == evaluation_id).order_by(Event.seq)).all()
    assert (evaluation.status, evaluation.started_at is not None) == ("running", True)
    progress = [event.data for event in recorded if event.type == "progress"]
    assert {event["key"] for event in progress} == {id}
    half = next(event for event in progress if event["phase"] == "epoch 1 of 2")
    assert half["evaluation"] == {"done": 0, "total": 2, "fraction": round(20 * 0.5 / (20 + 1 + 1), 4)}  # weighted
    assert progress[-1]["status"] == "succeeded"
    metrics = [event.data for event in recorded if event.type == "metric"]
    assert (metrics[0]["key"], metrics[0]["name"], metrics[0]["points"]) == (id, "loss", [[1, 1.0]])


def test_a_key_that_cannot_be_trained_fails_the_cells_that_wait_for_it(runtime, account, monkeypatch):
    def fail(context):
        raise AttackFailed("the loss is no number")

    register_scheme(monkeypatch, fail)
    id, evaluation_id, ids = create_key_for_evaluation(runtime, account)
    train_key(runtime, id)
    assert cell_statuses(runtime, ids) == ["failed", "failed"]
    error = get_row(runtime, Cell, ids[0]).error
    assert error["code"] == "key_unusable"
    assert "the loss is no number" in error["detail"]
    assert get_row(runtime, Evaluation, evaluation_id).status == "failed"


def test_a_key_given_up_as_poison_fails_its_cells(runtime, account):
    id, evaluation_id, ids = create_key_for_evaluation(runtime, account)
    for _ in range(runtime.settings.max_attempts_without_progress):
        key_training.claim(runtime, id)
        expire_key_leases(runtime)
        run_sweep(runtime)
    assert cell_statuses(runtime, ids) == ["failed", "failed"]
    assert get_row(runtime, Evaluation, evaluation_id).status == "failed"


def cancel_evaluation(runtime: Runtime, evaluation_id: str) -> None:
    with runtime.sessions.begin() as session:
        cancellation.cancel_evaluation(session, event_log.lock_evaluation(session, evaluation_id))


def test_a_cancelled_evaluation_cancels_the_key_that_is_made_for_it(runtime, account):
    id, evaluation_id, ids = create_key_for_evaluation(runtime, account)
    cancel_evaluation(runtime, evaluation_id)
    assert (get_key(runtime, id).status, cell_statuses(runtime, ids)) == ("cancelled", ["cancelled", "cancelled"])
    assert get_row(runtime, Evaluation, evaluation_id).status == "cancelled"


def test_an_evaluation_is_cancelling_until_its_training_has_stopped(runtime, account):
    id, evaluation_id, ids = create_key_for_evaluation(runtime, account)
    claimed_job = key_training.claim(runtime, id)
    cancel_evaluation(runtime, evaluation_id)
    assert (get_key(runtime, id).status, cell_statuses(runtime, ids)) == ("cancelling", ["cancelled", "cancelled"])
    run_sweep(runtime)
    assert get_row(runtime, Evaluation, evaluation_id).status == "cancelling"
    jobs.release(claimed_job)
    assert get_key(runtime, id).status == "cancelled"
    assert get_row(runtime, Evaluation, evaluation_id).status == "cancelled"
