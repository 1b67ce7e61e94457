"""Blobs in an object store: a server that speaks S3, reached as an operator would have it."""

from __future__ import annotations

import gc
import io
from dataclasses import replace

import boto3
import pytest
from sqlalchemy import update

from benchmarks.chaos import images
from tests.app.service import running
from tests.factories import make_evaluation
from tests.sample_images import archive, classes
from unveil.app.db.tables import Cell
from unveil.app.observability import failpoints
from unveil.app.settings import Settings
from unveil.app.storage import Blobs, StorageAway
from unveil.models.training import loop
from unveil.models.training.objectives import Regression
from unveil.worker import cells, sweeper
from unveil.worker.runtime import Runtime

ITN = {"dataset": images.NAME, "profile": "smoke"}


@pytest.fixture
def stored(settings: Settings, bucket_url: str) -> Settings:
    return settings.model_copy(update={"blob_url": bucket_url})


@pytest.fixture
def remote(tools: Runtime, stored: Settings) -> Runtime:
    images.write_few(stored.data_dir)
    return replace(tools, settings=stored, blobs=Blobs(stored))


def test_what_one_writes_another_lists_reads_and_deletes(stored):
    ours, theirs = Blobs(stored), Blobs(stored)
    assert theirs.names("keys") == []
    assert not theirs.exists("keys/a")
    ours.write("keys/a", b"one")
    ours.save("keys/deep/b", io.BytesIO(b"x" * 6_000_000))
    assert theirs.names("keys") == ["keys/a", "keys/deep"]
    assert sorted(theirs.below("keys")) == ["keys/a", "keys/deep/b"]
    assert (theirs.read("keys/a"), len(theirs.read("keys/deep/b"))) == (b"one", 6_000_000)
    with theirs.open("keys/deep/b") as file:
        file.seek(5_999_999)
        assert file.read() == b"x"
    ours.write("keys/a", b"two")
    assert theirs.read("keys/a") == b"two"
    theirs.delete("keys/a")
    theirs.delete("keys/a")
    assert not ours.exists("keys/a")
    with pytest.raises(FileNotFoundError):
        ours.read("keys/a")
    for blobs in (ours, theirs):
        blobs.delete_folder("keys")
    assert ours.names("keys") == []
    assert ours.free() is None


@pytest.mark.parametrize("size", [1_000, 20_000_000])  # in one piece, in several
def test_an_upload_that_breaks_off_keeps_the_old_blob(stored, size):
    class Breaks(io.BytesIO):
        def read(self, *args):
            piece = super().read(*args)
            if not piece:
                raise ConnectionResetError
            return piece

    blobs = Blobs(stored)
    blobs.write("datasets/ds_1.npz", b"old")
    with pytest.raises(StorageAway):
        blobs.save("datasets/ds_1.npz", Breaks(b"x" * size))
    gc.collect()
    assert blobs.read("datasets/ds_1.npz") == b"old"
    assert list(boto3.resource("s3").Bucket("unveil").multipart_uploads.all()) == []


def test_a_cell_killed_in_training_goes_on_elsewhere_from_its_checkpoint(remote, account, monkeypatch):
    class Killed(BaseException):
        pass

    steps: list[int] = []
    step = Regression.step

    def counted(*given):
        steps.append(1)
        return step(*given)

    monkeypatch.setattr(Regression, "step", counted)
    _, (calm, id) = make_evaluation(remote.sessions, account, ("itn", "itn"), settings=ITN)
    with remote.sessions.begin() as session:
        session.execute(update(Cell).values(attack={"name": "itn", "epochs": 6}))
    cells.handle(remote, calm)

    monkeypatch.setattr(loop, "SAVE_SECONDS", 0)
    saved = []

    def die(point: str) -> None:
        if point == "checkpoint-written":
            saved.append(remote.blobs.below(f"checkpoints/{id}"))
            if len(saved) == 3:
                raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(failpoints, "point", die)
        with pytest.raises(Killed):
            cells.handle(remote, id)
    assert len(saved[-1]) > 0
    with remote.sessions.begin() as session:  # as the sweeper would
        session.execute(update(Cell).where(Cell.id == id).values(status="queued", lease_owner=None))
    sweeper.clear_blobs(remote.sessions, remote.blobs)
    assert remote.blobs.below(f"checkpoints/{id}") == saved[-1], "of a job that goes on"

    steps.clear()
    cells.handle(replace(remote, owner="another/1/worker", blobs=Blobs(remote.settings)), id)
    with remote.sessions() as session:
        first, second = session.get_one(Cell, calm), session.get_one(Cell, id)
    assert second.status == first.status == "succeeded"
    for score in ("ssim", "psnr"):
        assert second.result[score] == first.result[score]
    assert len(steps) == 3, "the controls are shared, half of the attack was kept"
    assert remote.blobs.names("checkpoints") == []


@pytest.mark.anyio
async def test_the_service_keeps_data_sets_there(stored, anyio_backend):
    async with running(stored) as service, service.client(await service.account()) as client:
        files = {"archive": ("a.zip", archive(classes(5)), "application/zip")}
        made = await client.post("/datasets", data={"name": "mine"}, files=files)
        assert made.status_code == 201, made.text
        assert len(Blobs(stored).names("datasets")) == 1
        assert Blobs(stored).names("uploads") == []
        gone = await client.delete(f"/datasets/{made.json()['id']}")
        assert gone.status_code == 204
    assert Blobs(stored).names("datasets") == []


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
