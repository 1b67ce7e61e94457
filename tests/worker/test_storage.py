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
from tests.app.service import running
from tests.factories import make_evaluation
from tests.sample_images import archive, classes
from unveil.app.db.tables import Cell
from unveil.app.settings import Settings
from unveil.app.storage import Blobs, StorageAway, StorageFull
from unveil.worker import cells, sweeper

ITN = {"dataset": images.NAME, "profile": "smoke"}


@contextmanager
def full_beyond(size: int) -> Iterator[None]:
    """The kernel refuses this process every byte of a file past `size`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def away(blob_url: str) -> Iterator[None]:
    """Where its folder was, there is none, nor can one be made."""
    folder = Path(blob_url.removeprefix("file://"))
    folder.mkdir(exist_ok=True)
    kept = folder.rename(folder.with_name("kept"))
    folder.touch()
    try:
        yield
    finally:
        folder.unlink()
        kept.rename(folder)


def test_a_full_disk_keeps_the_old_blob_and_no_part_of_the_new(settings: Settings) -> None:
    blobs = Blobs(settings)
    blobs.write("datasets/ds_1.npz", b"old")
    with full_beyond(1000), pytest.raises(StorageFull):
        blobs.write("datasets/ds_1.npz", b"x" * 5000)
    assert blobs.read("datasets/ds_1.npz") == b"old"
    assert blobs.names("datasets") == ["datasets/ds_1.npz"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda blobs: blobs.read("a/b"),
        lambda blobs: blobs.write("a/b", b"x"),
        lambda blobs: blobs.names("a"),
        lambda blobs: blobs.delete("a/b"),
    ],
)
def test_an_object_store_that_does_not_answer_is_away(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Blobs], object]
) -> None:
    named = {"ENDPOINT_URL": "http://127.0.0.1:1", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "MAX_ATTEMPTS": "1"}
    for name, value in named.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(StorageAway):
        ask(Blobs(settings.model_copy(update={"blob_url": "s3://bucket/blobs"})))


def test_a_training_whose_checkpoints_find_no_room_fails_and_says_so(tools, account) -> None:
    images.write_few(tools.settings.data_dir)
    _, (id,) = make_evaluation(tools.sessions, account, ("itn",), settings=ITN)
    with full_beyond(50_000):
        cells.handle(tools, id)
    with tools.sessions() as session:
        cell = session.get_one(Cell, id)
    assert (cell.status, cell.error["code"]) == ("failed", "storage_full")
    assert tools.blobs.names("checkpoints") == []


def test_a_store_that_is_away_fails_the_cell_and_not_the_sweeper(tools, account) -> None:
    images.write_few(tools.settings.data_dir)
    _, (id,) = make_evaluation(tools.sessions, account, ("itn",), settings=ITN)
    with away(tools.settings.blob_url):
        cells.handle(tools, id)
        sweeper.sweep(tools.sessions, tools.celery, tools.settings)
    with tools.sessions() as session:
        cell = session.get_one(Cell, id)
    assert (cell.status, cell.error["code"]) == ("failed", "storage_away")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("members", "whose"),
    [(classes(120), "the service's, for the archive"), ("flat", "the worker's, for the images")],
)
async def test_an_upload_onto_a_full_disk_leaves_nothing(settings: Settings, anyio_backend, members, whose) -> None:
    if members == "flat":  # small in the archive, large outside
        buffer = io.BytesIO()
        Image.new("RGB", (96, 96)).save(buffer, "PNG")
        members = {f"{kind}/{number}.png": buffer.getvalue() for kind in "ab" for number in range(10)}
    async with running(settings) as service, service.client(await service.account()) as client:
        files = {"archive": ("a.zip", archive(members), "application/zip")}
        with full_beyond(100_000):
            answer = await client.post("/datasets", data={"name": "mine"}, files=files)
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_full"), whose
        assert [item for item in (await client.get("/datasets")).json()["items"] if item["name"] == "mine"] == []
    assert Blobs(settings).names("uploads") == Blobs(settings).names("datasets") == []


@pytest.mark.anyio
async def test_an_upload_to_a_store_that_is_away_says_so(settings: Settings, anyio_backend) -> None:
    async with running(settings) as service, service.client(await service.account()) as client:
        files = {"archive": ("a.zip", archive(classes(5)), "application/zip")}
        with away(settings.blob_url):
            answer = await client.post("/datasets", data={"name": "mine"}, files=files)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_away")


def test_two_may_delete_one_blob(settings: Settings) -> None:
    """As a request and the sweeper do."""
    names = [f"keys/{number}" for number in range(300)]
    blobs = Blobs(settings)
    for name in names:
        blobs.write(name, b"")
    with ThreadPoolExecutor() as both:
        for deleting in [both.submit(lambda: [Blobs(settings).delete(name) for name in names]) for _ in range(4)]:
            deleting.result()
    assert blobs.names("keys") == []


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
