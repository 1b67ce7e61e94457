"""A disk that is full and a store that is away: a typed failure, and nothing half-made is left or listed."""

from __future__ import annotations

import io
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.chaos import images
from tests.app.service import run_service
from tests.factories import make_evaluation
from tests.jobs import run_cell
from tests.sample_images import archive, classes
from unveil.app.db.tables import Cell
from unveil.app.settings import Settings
from unveil.app.storage import BlobStore, StorageFullError, StorageUnavailableError
from unveil.worker import sweeper

ITN = {"dataset": images.SMALL_DATASET, "profile": "smoke"}


@contextmanager
def limit_file_size(size: int) -> Iterator[None]:
    """The kernel refuses this process every byte of a file past `size`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def block_blob_store(blob_url: str) -> Iterator[None]:
    """Where its folder was, there is none, nor can one be made."""
    folder = Path(blob_url.removeprefix("file://"))
    folder.mkdir(exist_ok=True)
    moved = folder.rename(folder.with_name("kept"))
    folder.touch()
    try:
        yield
    finally:
        folder.unlink()
        moved.rename(folder)


def test_a_full_disk_keeps_the_old_blob_and_no_part_of_the_new(settings: Settings) -> None:
    blobs = BlobStore(settings)
    blobs.write("datasets/ds_1.npz", b"old")
    with limit_file_size(1000), pytest.raises(StorageFullError):
        blobs.write("datasets/ds_1.npz", b"x" * 5000)
    assert blobs.read("datasets/ds_1.npz") == b"old"
    assert blobs.list_folder("datasets") == ["datasets/ds_1.npz"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda blobs: blobs.read("a/b"),
        lambda blobs: blobs.write("a/b", b"x"),
        lambda blobs: blobs.list_folder("a"),
        lambda blobs: blobs.delete("a/b"),
    ],
)
def test_an_object_store_that_does_not_answer_is_away(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, ask: Callable[[BlobStore], object]
) -> None:
    named = {"ENDPOINT_URL": "http://127.0.0.1:1", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "MAX_ATTEMPTS": "1"}
    for name, value in named.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(StorageUnavailableError):
        ask(BlobStore(settings.model_copy(update={"blob_url": "s3://bucket/blobs"})))


def test_a_training_without_space_for_checkpoints_fails_with_the_reason(runtime, account) -> None:
    images.write_dataset(runtime.settings.data_dir)
    _, (id,) = make_evaluation(runtime.sessions, account, ("itn",), settings=ITN)
    with limit_file_size(50_000):
        run_cell(runtime, id)
    with runtime.sessions() as session:
        cell = session.get_one(Cell, id)
    assert (cell.status, cell.error["code"]) == ("failed", "storage_full")
    assert runtime.blobs.list_folder("checkpoints") == []


def test_a_store_that_is_away_fails_the_cell_and_not_the_sweeper(runtime, account) -> None:
    images.write_dataset(runtime.settings.data_dir)
    _, (id,) = make_evaluation(runtime.sessions, account, ("itn",), settings=ITN)
    with block_blob_store(runtime.settings.blob_url):
        run_cell(runtime, id)
        sweeper.sweep(runtime.sessions, runtime.celery, runtime.settings)
    with runtime.sessions() as session:
        cell = session.get_one(Cell, id)
    assert (cell.status, cell.error["code"]) == ("failed", "storage_away")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("members", "which_limit"),
    [(classes(120), "the service's, for the archive"), ("flat", "the worker's, for the images")],
)
async def test_an_upload_onto_a_full_disk_leaves_nothing(
    settings: Settings, anyio_backend, members, which_limit
) -> None:
    if members == "flat":  # small in the archive, large outside
        buffer = io.BytesIO()
        Image.new("RGB", (96, 96)).save(buffer, "PNG")
        members = {f"{kind}/{number}.png": buffer.getvalue() for kind in "ab" for number in range(10)}
    async with run_service(settings) as service, service.client(await service.create_account()) as client:
        files = {"archive": ("a.zip", archive(members), "application/zip")}
        with limit_file_size(100_000):
            answer = await client.post("/datasets", data={"name": "mine"}, files=files)
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_full"), which_limit
        assert [item for item in (await client.get("/datasets")).json()["items"] if item["name"] == "mine"] == []
    assert BlobStore(settings).list_folder("uploads") == BlobStore(settings).list_folder("datasets") == []


@pytest.mark.anyio
async def test_an_upload_to_an_unreachable_store_reports_it(settings: Settings, anyio_backend) -> None:
    async with run_service(settings) as service, service.client(await service.create_account()) as client:
        files = {"archive": ("a.zip", archive(classes(5)), "application/zip")}
        with block_blob_store(settings.blob_url):
            answer = await client.post("/datasets", data={"name": "mine"}, files=files)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_away")


def test_two_may_delete_one_blob(settings: Settings) -> None:
    """As a request and the sweeper do."""
    names = [f"keys/{number}" for number in range(300)]
    blobs = BlobStore(settings)
    for name in names:
        blobs.write(name, b"")
    with ThreadPoolExecutor() as both:
        for deleting in [both.submit(lambda: [BlobStore(settings).delete(name) for name in names]) for _ in range(4)]:
            deleting.result()
    assert blobs.list_folder("keys") == []
