"""The disk full, and the blob store away, while a training saves and uploads come in: typed failures, no half artefact.

The disk is one of 300 MiB in memory, mounted for the occasion: that needs root.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.chaos import images
from benchmarks.chaos.fixtures import ChaosEnvironment, chaos_environment
from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from unveil.app.db.job_states import Status
from unveil.app.storage import BlobStore

_DISK_MIB = 300  # the service wants 256 free before it calls itself ready
_TRAINED_KEY_ORDER = {"schemes": [{"name": "tn-gan"}]}

Fault = Callable[[Path], AbstractContextManager[None]]


def run(log_progress: ProgressCallback, *, times: int = 2) -> list[FaultResult]:
    rows = []
    with _small_disk() as disk, chaos_environment(UNVEIL_BLOB_URL=(disk / "blobs").as_uri()) as environment:
        for name, code, fault in (
            ("disk full", "storage_full", _fill_disk),
            ("blob store away", "storage_away", _block_store),
        ):
            wrong = 0
            seconds: list[float] = []
            for number in range(times):
                problems = _trial(environment, disk, code, fault, f"{name} {number}", seconds)
                for line in problems:
                    log_progress(f"{name}: {line}")
                wrong += len(problems)
            note = f"an upload, an evaluation that trains a key: each says {code}, leaves nothing, works afterwards"
            rows.append(FaultResult(name, times, times if not wrong else 0, wrong, seconds, note))
    return rows


def _trial(
    environment: ChaosEnvironment, disk: Path, code: str, fault: Fault, name: str, seconds: list[float]
) -> list[str]:
    """What was wrong."""
    problems = []
    environment.wait_until(environment.stack.is_ready, "the stack")
    stored_before = _list_stored(environment)
    with fault(disk):
        answer = _upload(environment, name)
        if (answer.status_code, answer.json().get("code")) != (503, code):
            problems.append(f"an upload was answered {answer.status_code} {answer.text[:200]}")
        id = environment.create_evaluation([{"name": "none"}], **_TRAINED_KEY_ORDER)
        environment.wait_until_ended(id)
        evaluation = environment.get_evaluation(id)
        codes = {key["error"]["code"] for key in evaluation["keys"] if key["error"]}
        if evaluation["status"] != Status.FAILED or codes != {code}:
            problems.append(f"the evaluation ended {evaluation['status']}, its key with {codes}")
        time.sleep(1.5)  # the service looks at its parts once a second
        if environment.stack.is_ready():
            problems.append("it calls itself ready")
    started_at = time.monotonic()
    environment.wait_until(environment.stack.is_ready, "the service")
    seconds.append(time.monotonic() - started_at)
    if (stored_after := _list_stored(environment)) != stored_before:
        problems.append(f"left behind: {sorted(stored_after ^ stored_before)}")
    if not _upload(environment, f"{name}, afterwards").is_success:
        problems.append("an upload fails afterwards")
    id = environment.create_evaluation([{"name": "none"}], **_TRAINED_KEY_ORDER)
    environment.wait_until_ended(id)
    if environment.count_damaged_cells([id]):
        problems.append("an evaluation fails afterwards")
    return problems


def _list_stored(environment: ChaosEnvironment) -> set[str]:
    """Datasets, keys that are ready, and everything in the store."""
    datasets = {item["id"] for item in environment.http.get("/datasets").json()["items"]}
    keys = {item["id"] for item in environment.http.get("/keys").json()["items"] if item["status"] == "ready"}
    store = BlobStore(environment.stack.settings)
    blobs = {name for folder in ("uploads", "datasets", "keys", "checkpoints") for name in store.list_folder(folder)}
    return datasets | keys | blobs


def _upload(environment: ChaosEnvironment, name: str) -> httpx.Response:
    form: dict[str, Any] = {"name": name, "kind": "plain", "size": "24"}
    return environment.http.post("/datasets", data=form, files={"archive": ("a.zip", images.archive())})


# --- the faults ---


@contextmanager
def _small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "unveil", name], check=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


@contextmanager
def _fill_disk(disk: Path) -> Iterator[None]:
    ballast = disk / "ballast"
    try:
        with ballast.open("wb") as file:
            while file.write(bytes(2**20)):
                file.flush()
    except OSError:
        pass
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def _block_store(disk: Path) -> Iterator[None]:
    """Where its folder was there is a file: nothing can be read or made there."""
    folder = disk / "blobs"
    moved_folder = folder.rename(disk / "kept")
    folder.touch()
    try:
        yield
    finally:
        folder.unlink()
        moved_folder.rename(folder)
