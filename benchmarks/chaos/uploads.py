"""The corpus of hostile uploads against the real processes: answers, what is left behind, time and memory.

`python -m benchmarks.chaos.uploads` prints the table by kind.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
from sqlalchemy import Engine

from benchmarks.chaos.fixtures import ChaosEnvironment, chaos_environment
from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from tests.hostile.corpus import CORPUS
from tests.hostile.corpus.images import LARGEST
from tests.hostile.corpus.kind import HostileCase
from tests.hostile.corpus.protected import with_key
from tests.hostile.memory import peak_bytes, reset_peak
from tests.hostile.tenant_fixtures import count_stored
from tests.sample_images import png

# What one request may take on top of a process at rest. A body of 32 MiB is held, sealed and sent on; 16 million pixels
# are held decoded, padded and protected, and written as a PNG.
MAX_API_BYTES, MAX_WORKER_BYTES = 256 * 2**20, 1024 * 2**20
MAX_SECONDS = 30.0


@dataclass(frozen=True)
class UploadAttempt:
    upload: HostileCase
    status: int
    code: str | None
    stored_rows: dict[str, int]  # what is stored now that was not before
    seconds: float
    api: int  # bytes at the peak, on top of what the process held
    worker: int  # of the worker's process that grew most

    @property
    def has_expected_answer(self) -> bool:
        return (self.status, self.code) == (self.upload.status, self.upload.code)

    @property
    def is_within_limits(self) -> bool:
        return self.api < MAX_API_BYTES and self.worker < MAX_WORKER_BYTES and self.seconds < MAX_SECONDS

    @property
    def leaves_expected_rows(self) -> bool:
        return self.stored_rows == dict(self.upload.makes)


def run(log_progress: ProgressCallback) -> list[FaultResult]:
    attempts = []
    for attempt in _try_uploads():
        attempts.append(attempt)
        if not (attempt.has_expected_answer and attempt.is_within_limits and attempt.leaves_expected_rows):
            log_progress(format_row(attempt))
    good_count = sum(attempt.has_expected_answer and attempt.is_within_limits for attempt in attempts)
    api, worker = (max(getattr(attempt, name) for attempt in attempts) / 2**20 for name in ("api", "worker"))
    slowest = max(attempt.seconds for attempt in attempts)
    note = f"at most {api:.0f} MiB more in the service, {worker:.0f} in a worker, {slowest:.1f} s"
    return [
        FaultResult(
            "hostile uploads",
            len(attempts),
            good_count,
            sum(not attempt.leaves_expected_rows for attempt in attempts),
            note=note,
        )
    ]


def _try_uploads() -> Iterator[UploadAttempt]:
    with chaos_environment(UNVEIL_LEASE_TTL_S="60", UNVEIL_HEARTBEAT_INTERVAL_S="10") as environment:
        engine = environment.sessions.kw["bind"]
        key_id = environment.http.post("/keys", json={"scheme": "tanaka"}).raise_for_status().json()["id"]
        environment.http.post(
            "/encrypt", data={"scheme": "tanaka"}, files={"images": ("a.png", png(0))}, timeout=300
        ).raise_for_status()
        for upload in [*CORPUS, LARGEST]:
            yield _try_upload(environment, engine, upload, key_id)


def _try_upload(environment: ChaosEnvironment, engine: Engine, upload: HostileCase, key_id: str) -> UploadAttempt:
    request = with_key(upload.make(), key_id)
    rows_before = count_stored(engine, environment.stack.settings)
    api = [process.pid for process in environment.processes("unveil.app.cli", "serve")]
    workers = [process.pid for process in environment.processes("unveil.worker.main", "encrypt")]
    rest_bytes = {pid: reset_peak(pid) for pid in {*api, *workers}}
    started_at = time.monotonic()
    try:
        answer = environment.http.post(upload.path, content=request.content, headers=request.headers, timeout=120)
        status, code = answer.status_code, answer.json()["code"] if answer.status_code >= 400 else None
    except httpx.TransportError as error:
        status, code = 0, type(error).__name__
    seconds = time.monotonic() - started_at
    growth_bytes = {pid: peak_bytes(pid) - rest_bytes[pid] for pid in rest_bytes}
    rows_after = count_stored(engine, environment.stack.settings)
    rows_after.subtract(rows_before)
    stored_rows = {name: count for name, count in rows_after.items() if count}
    return UploadAttempt(
        upload,
        status,
        code,
        stored_rows,
        seconds,
        max(growth_bytes[i] for i in api),
        max(growth_bytes[i] for i in workers),
    )


def format_row(attempt: UploadAttempt) -> str:
    stored = ", ".join(f"{count} {name}" for name, count in attempt.stored_rows.items()) or "nothing"
    figures = f"{attempt.api / 2**20:.0f} | {attempt.worker / 2**20:.0f} | {attempt.seconds:.2f}"
    wrong = "" if attempt.has_expected_answer and attempt.leaves_expected_rows else " **not as defined**"
    answer = f"{attempt.status} {attempt.code or ''}"
    return f"| {attempt.upload.name} | {attempt.upload.path} | {answer} | {stored} | {figures} |{wrong}"


if __name__ == "__main__":
    print("| upload | to | answer | stored | service, MiB | worker, MiB | s |\n|---|---|---|---|---|---|---|")
    for one in _try_uploads():
        print(format_row(one))
