"""Blobs in an object store: a server that speaks S3, reached as an operator would have it."""

from __future__ import annotations

import gc
import io
from dataclasses import replace

import boto3
import pytest
from sqlalchemy import update

from benchmarks.chaos import images
from tests.app.service import run_service
from tests.factories import make_evaluation
from tests.jobs import run_cell
from tests.sample_images import archive, classes
from unveil.app.db.tables import Cell
from unveil.app.observability import failpoints
from unveil.app.settings import Settings
from unveil.app.storage import BlobStore, StorageUnavailableError
from unveil.models.training import loop
from unveil.models.training.objectives import RegressionTask
from unveil.worker import sweeper
from unveil.worker.runtime import Runtime

ITN = {"dataset": images.SMALL_DATASET, "profile": "smoke"}


@pytest.fixture
def bucket_settings(settings: Settings, bucket_url: str) -> Settings:
    return settings.model_copy(update={"blob_url": bucket_url})


@pytest.fixture
def bucket_runtime(runtime: Runtime, bucket_settings: Settings) -> Runtime:
    images.write_dataset(bucket_settings.data_dir)
    return replace(runtime, settings=bucket_settings, blobs=BlobStore(bucket_settings))


def test_what_one_writes_another_lists_reads_and_deletes(bucket_settings):
    first_store, second_store = BlobStore(bucket_settings), BlobStore(bucket_settings)
    assert second_store.list_folder("keys") == []
    assert not second_store.exists("keys/a")
    first_store.write("keys/a", b"one")
    first_store.write_file("keys/deep/b", io.BytesIO(b"x" * 6_000_000))
    assert second_store.list_folder("keys") == ["keys/a", "keys/deep"]
    assert sorted(second_store.list_recursive("keys")) == ["keys/a", "keys/deep/b"]
    assert (second_store.read("keys/a"), len(second_store.read("keys/deep/b"))) == (b"one", 6_000_000)
    with second_store.open("keys/deep/b") as file:
        file.seek(5_999_999)
        assert file.read() == b"x"
    first_store.write("keys/a", b"two")
    assert second_store.read("keys/a") == b"two"
    second_store.delete("keys/a")
    second_store.delete("keys/a")
    assert not first_store.exists("keys/a")
    with pytest.raises(FileNotFoundError):
        first_store.read("keys/a")
    for blobs in (first_store, second_store):
        blobs.delete_folder("keys")
    assert first_store.list_folder("keys") == []
    assert first_store.free_bytes() is None


@pytest.mark.parametrize("size", [1_000, 20_000_000])  # in one piece, in several
def test_an_upload_that_breaks_off_keeps_the_old_blob(bucket_settings, size):
    class Breaks(io.BytesIO):
        def read(self, *args):
            piece = super().read(*args)
            if not piece:
                raise ConnectionResetError
            return piece

    blobs = BlobStore(bucket_settings)
    blobs.write("datasets/ds_1.npz", b"old")
    with pytest.raises(StorageUnavailableError):
        blobs.write_file("datasets/ds_1.npz", Breaks(b"x" * size))
    gc.collect()
    assert blobs.read("datasets/ds_1.npz") == b"old"
    assert list(boto3.resource("s3").Bucket("unveil").multipart_uploads.all()) == []


def test_a_cell_killed_in_training_goes_on_elsewhere_from_its_checkpoint(bucket_runtime, account, monkeypatch):
    class Killed(BaseException):
        pass

    steps: list[int] = []
    step = RegressionTask.step

    def counted(*arguments):
        steps.append(1)
        return step(*arguments)

    monkeypatch.setattr(RegressionTask, "step", counted)
    _, (baseline, id) = make_evaluation(bucket_runtime.sessions, account, ("itn", "itn"), settings=ITN)
    with bucket_runtime.sessions.begin() as session:
        session.execute(update(Cell).values(attack={"name": "itn", "epochs": 6}))
    run_cell(bucket_runtime, baseline)

    monkeypatch.setattr(loop, "CHECKPOINT_INTERVAL_SECONDS", 0)
    saved_checkpoints = []

    def die(point: str) -> None:
        if point == "checkpoint-written":
            saved_checkpoints.append(bucket_runtime.blobs.list_recursive(f"checkpoints/{id}"))
            if len(saved_checkpoints) == 3:
                raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(failpoints, "failpoint", die)
        with pytest.raises(Killed):
            run_cell(bucket_runtime, id)
    assert len(saved_checkpoints[-1]) > 0
    with bucket_runtime.sessions.begin() as session:  # as the sweeper would
        session.execute(update(Cell).where(Cell.id == id).values(status="queued", lease_owner=None))
    sweeper.delete_leftover_blobs(bucket_runtime.sessions, bucket_runtime.blobs)
    assert bucket_runtime.blobs.list_recursive(f"checkpoints/{id}") == saved_checkpoints[-1], "of a job that goes on"

    steps.clear()
    run_cell(replace(bucket_runtime, owner="another/1/worker", blobs=BlobStore(bucket_runtime.settings)), id)
    with bucket_runtime.sessions() as session:
        first, second = session.get_one(Cell, baseline), session.get_one(Cell, id)
    assert second.status == first.status == "succeeded"
    for score in ("ssim", "psnr"):
        assert second.result[score] == first.result[score]
    assert len(steps) == 3, "the controls are shared, half of the attack was kept"
    assert bucket_runtime.blobs.list_folder("checkpoints") == []


@pytest.mark.anyio
async def test_the_service_keeps_datasets_there(bucket_settings, anyio_backend):
    async with run_service(bucket_settings) as service, service.client(await service.create_account()) as client:
        files = {"archive": ("a.zip", archive(classes(5)), "application/zip")}
        made = await client.post("/datasets", data={"name": "mine"}, files=files)
        assert made.status_code == 201, made.text
        assert len(BlobStore(bucket_settings).list_folder("datasets")) == 1
        assert BlobStore(bucket_settings).list_folder("uploads") == []
        gone = await client.delete(f"/datasets/{made.json()['id']}")
        assert gone.status_code == 204
    assert BlobStore(bucket_settings).list_folder("datasets") == []
