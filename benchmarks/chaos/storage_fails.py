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
from benchmarks.chaos.fixtures import Scene, scene
from benchmarks.chaos.outcome import Outcome, Tell
from unveil.app.db.job_states import Status
from unveil.app.storage import Blobs

_MIB = 300  # the service wants 256 free before it calls itself ready
_TRAINED = {"schemes": [{"name": "tn-gan"}]}

Fault = Callable[[Path], AbstractContextManager[None]]


def run(tell: Tell, *, times: int = 2) -> list[Outcome]:
    rows = []
    with _small_disk() as disk, scene(UNVEIL_BLOB_URL=(disk / "blobs").as_uri()) as there:
        for name, code, fault in (("disk full", "storage_full", _full), ("blob store away", "storage_away", _away)):
            wrong = 0
            seconds: list[float] = []
            for number in range(times):
                told = _trial(there, disk, code, fault, f"{name} {number}", seconds)
                for line in told:
                    tell(f"{name}: {line}")
                wrong += len(told)
            note = f"an upload, an evaluation that trains a key: each says {code}, leaves nothing, works afterwards"
            rows.append(Outcome(name, times, times if not wrong else 0, wrong, seconds, note))
    return rows


def _trial(there: Scene, disk: Path, code: str, fault: Fault, name: str, seconds: list[float]) -> list[str]:
    """What was wrong."""
    wrong = []
    there.wait(there.stack.ready, "the stack")
    before = _listed(there)
    with fault(disk):
        answer = _upload(there, name)
        if (answer.status_code, answer.json().get("code")) != (503, code):
            wrong.append(f"an upload was answered {answer.status_code} {answer.text[:200]}")
        id = there.order([{"name": "none"}], **_TRAINED)
        there.until_ended(id)
        found = there.show(id)
        codes = {key["error"]["code"] for key in found["keys"] if key["error"]}
        if found["status"] != Status.FAILED or codes != {code}:
            wrong.append(f"the evaluation ended {found['status']}, its key with {codes}")
        time.sleep(1.5)  # the service looks at its parts once a second
        if there.stack.ready():
            wrong.append("it calls itself ready")
    began = time.monotonic()
    there.wait(there.stack.ready, "the service")
    seconds.append(time.monotonic() - began)
    if (after := _listed(there)) != before:
        wrong.append(f"left behind: {sorted(after ^ before)}")
    if not _upload(there, f"{name}, afterwards").is_success:
        wrong.append("an upload fails afterwards")
    id = there.order([{"name": "none"}], **_TRAINED)
    there.until_ended(id)
    if there.harmed([id]):
        wrong.append("an evaluation fails afterwards")
    return wrong


def _listed(there: Scene) -> set[str]:
    """Data sets, keys that are ready, and everything in the store."""
    datasets = {item["id"] for item in there.http.get("/datasets").json()["items"]}
    keys = {item["id"] for item in there.http.get("/keys").json()["items"] if item["status"] == "ready"}
    store = Blobs(there.stack.settings)
    blobs = {name for folder in ("uploads", "datasets", "keys", "checkpoints") for name in store.names(folder)}
    return datasets | keys | blobs


def _upload(there: Scene, name: str) -> httpx.Response:
    form: dict[str, Any] = {"name": name, "kind": "plain", "size": "24"}
    return there.http.post("/datasets", data=form, files={"archive": ("a.zip", images.archive())})


# --- the faults ---


@contextmanager
def _small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_MIB}m", "unveil", name], check=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


@contextmanager
def _full(disk: Path) -> Iterator[None]:
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
def _away(disk: Path) -> Iterator[None]:
    """Where its folder was there is a file: nothing can be read or made there."""
    folder = disk / "blobs"
    kept = folder.rename(disk / "kept")
    folder.touch()
    try:
        yield
    finally:
        folder.unlink()
        kept.rename(folder)
