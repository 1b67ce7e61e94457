"""The corpus of hostile uploads against the real processes: answers, what is left behind, time and memory.

`python -m benchmarks.chaos.uploads` prints the table by kind.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
from sqlalchemy import Engine

from benchmarks.chaos.fixtures import Scene, scene
from benchmarks.chaos.outcome import Outcome, Tell
from tests.hostile.corpus import CORPUS
from tests.hostile.corpus.images import LARGEST
from tests.hostile.corpus.kind import Kind
from tests.hostile.corpus.protected import with_key
from tests.hostile.memory import peak, reset_peak
from tests.hostile.tenant_fixtures import holdings
from tests.sample_images import png

# What one request may take on top of a process at rest. A body of 32 MiB is held, sealed and sent on; 16 million pixels
# are held decoded, padded and protected, and written as a PNG.
MOST_API, MOST_WORKER = 256 * 2**20, 1024 * 2**20
MOST_S = 30.0


@dataclass(frozen=True)
class Tried:
    kind: Kind
    status: int
    code: str | None
    left: dict[str, int]  # what is stored now that was not before
    seconds: float
    api: int  # bytes at the peak, on top of what the process held
    worker: int  # of the worker's process that grew most

    @property
    def as_defined(self) -> bool:
        return (self.status, self.code) == (self.kind.status, self.kind.code)

    @property
    def bounded(self) -> bool:
        return self.api < MOST_API and self.worker < MOST_WORKER and self.seconds < MOST_S

    @property
    def clean(self) -> bool:
        return self.left == dict(self.kind.makes)


def run(tell: Tell) -> list[Outcome]:
    tried = []
    for one in _try_all():
        tried.append(one)
        if not (one.as_defined and one.bounded and one.clean):
            tell(line(one))
    good = sum(one.as_defined and one.bounded for one in tried)
    api, worker = (max(getattr(one, name) for one in tried) / 2**20 for name in ("api", "worker"))
    slowest = max(one.seconds for one in tried)
    note = f"at most {api:.0f} MiB more in the service, {worker:.0f} in a worker, {slowest:.1f} s"
    return [Outcome("hostile uploads", len(tried), good, sum(not one.clean for one in tried), note=note)]


def _try_all() -> Iterator[Tried]:
    with scene(UNVEIL_LEASE_S="60", UNVEIL_HEARTBEAT_S="10") as there:
        engine = there.sessions.kw["bind"]
        key_id = there.http.post("/keys", json={"scheme": "tanaka"}).raise_for_status().json()["id"]
        there.http.post(
            "/encrypt", data={"scheme": "tanaka"}, files={"images": ("a.png", png(0))}, timeout=300
        ).raise_for_status()
        for kind in [*CORPUS, LARGEST]:
            yield _try(there, engine, kind, key_id)


def _try(there: Scene, engine: Engine, kind: Kind, key_id: str) -> Tried:
    sent = with_key(kind.make(), key_id)
    before = holdings(engine, there.stack.settings)
    api = [process.pid for process in there.processes("unveil.app.main:create_app")]
    workers = [process.pid for process in there.processes("unveil.worker.main", "encrypt")]
    held = {pid: reset_peak(pid) for pid in {*api, *workers}}
    began = time.monotonic()
    try:
        answer = there.http.post(kind.path, content=sent.content, headers=sent.headers, timeout=120)
        status, code = answer.status_code, answer.json()["code"] if answer.status_code >= 400 else None
    except httpx.TransportError as error:
        status, code = 0, type(error).__name__
    seconds = time.monotonic() - began
    grown = {pid: peak(pid) - held[pid] for pid in held}
    after = holdings(engine, there.stack.settings)
    after.subtract(before)
    left = {name: count for name, count in after.items() if count}
    return Tried(kind, status, code, left, seconds, max(grown[i] for i in api), max(grown[i] for i in workers))


def line(one: Tried) -> str:
    made = ", ".join(f"{count} {name}" for name, count in one.left.items()) or "nothing"
    figures = f"{one.api / 2**20:.0f} | {one.worker / 2**20:.0f} | {one.seconds:.2f}"
    wrong = "" if one.as_defined and one.clean else " **not as defined**"
    return f"| {one.kind.name} | {one.kind.path} | {one.status} {one.code or ''} | {made} | {figures} |{wrong}"


if __name__ == "__main__":
    print("| upload | to | answer | stored | service, MiB | worker, MiB | s |\n|---|---|---|---|---|---|---|")
    for one in _try_all():
        print(line(one))
