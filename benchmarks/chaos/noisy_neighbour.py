"""One account at its limits, and what another notices of it: the median time of its requests, alone and beside; and
how many cells of a full queue are begun before its own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
from sqlalchemy import func, select

from benchmarks.chaos.fixtures import SCHEMES, Scene, body, scene
from benchmarks.chaos.outcome import Outcome, Tell
from tests.sample_images import png
from unveil.app.db.tables import Cell, Evaluation
from unveil.app.security.principal import SCOPES

_MOST = 1.20
_ROUNDS, _REQUESTS = 5, 40
_FULL, _ORDERS = 100, 10

# The neighbour lives in a process of its own, which has what all others leave of the machine (to be nice is not enough
# for that): in truth its computer is another one.
_HAMMER = """
import os, sys, threading, httpx
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
url, token, kind = sys.argv[1:]
body = sys.stdin.buffer.read()
def hammer():
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=120) as http:
        while True:
            if kind == "read":
                http.get("/keys")
            else:
                http.post("/encrypt", data={"scheme": "tanaka"}, files={"images": ("a.png", body, "image/png")})
for _ in range(16):
    threading.Thread(target=hammer, daemon=True).start()
threading.Event().wait()
"""


def run(tell: Tell) -> list[Outcome]:
    with scene(UNVEIL_REQUESTS_PER_SECOND="50") as there:
        made = [
            there.http.post("/accounts", json={"name": name, "scopes": [*SCOPES]}).json()["token"]
            for name in ("greedy", "quiet")
        ]
        with httpx.Client(base_url=there.stack.url, headers={"Authorization": f"Bearer {made[1]}"}, timeout=60) as http:
            key = http.post("/keys", json={"scheme": "tanaka"}).json()["id"]
            picture = {"images": ("a.png", png(0, 96, 96), "image/png")}
            asked: dict[str, Callable[[], httpx.Response]] = {
                "reading": lambda: http.get(f"/keys/{key}"),
                "encrypting": lambda: http.post("/encrypt", data={"key_id": key}, files=picture),
            }
            outcomes = []
            for kind, body in (("read", b""), ("encrypt", png(1, 1000, 1000))):
                for name, ask in asked.items():
                    outcomes.append(_beside(tell, there.stack.url, made[0], kind, body, name, ask))
            outcomes.append(_behind_a_full_queue(tell, there, made[0], http))
            return outcomes


def _beside(
    tell: Tell, url: str, token: str, kind: str, body: bytes, name: str, ask: Callable[[], httpx.Response]
) -> Outcome:
    alone: list[float] = []
    beside: list[float] = []
    for _ in range(_ROUNDS):  # in turn, so that a drifting machine is unfair to neither
        alone += _times(ask)
        with _neighbour(url, token, kind, body):
            beside += _times(ask)
    ratio = statistics.median(beside) / statistics.median(alone)
    tell(f"{name} beside {kind}: {statistics.median(alone) * 1e3:.1f} ms alone, {ratio:.2f} times that beside")
    note = f"{ratio:.2f} times its {statistics.median(alone) * 1e3:.1f} ms"
    return Outcome(f"{name} beside one at its limit ({kind})", 1, int(ratio <= _MOST), 0, note=note)


def _behind_a_full_queue(tell: Tell, there: Scene, greedy: str, http: httpx.Client) -> Outcome:
    """Survived: of the other's cells that wait, one at most is begun between an order and its only cell: its turn."""
    one_cell = body([{"name": "none"}])
    for _ in range(_FULL // len(SCHEMES)):
        many = body([{"name": "none"}], schemes=SCHEMES)
        there.http.post("/evaluations", json=many, headers={"Authorization": f"Bearer {greedy}"}).raise_for_status()
    overtaken = []
    for _ in range(_ORDERS):
        id = http.post("/evaluations", json=one_cell).raise_for_status().json()["id"]
        there.wait(lambda id=id: there.ended([id]), "one cell behind a full queue")
        with there.sessions() as session:
            mine = session.execute(
                select(Evaluation.created_at, Cell.started_at).join(Cell).where(Cell.evaluation_id == id)
            ).one()
            between = Cell.started_at.between(mine.created_at, mine.started_at) & (Cell.evaluation_id != id)
            overtaken.append(session.scalar(select(func.count()).select_from(Cell).where(between)) or 0)
    with there.sessions() as session:
        left = session.scalar(select(func.count()).select_from(Cell).where(Cell.finished_at.is_(None)))
    assert left, "the queue was over before the orders were"
    tell(f"behind {_FULL} cells of another: {overtaken} of them begun first, {left} left at the end")
    note = f"{_FULL} cells of the other wait; begun before the one that is ordered: at most {max(overtaken)}"
    return Outcome("one cell behind a full queue", _ORDERS, sum(begun <= 1 for begun in overtaken), 0, note=note)


def _times(ask: Callable[[], httpx.Response]) -> list[float]:
    found = []
    answers: Counter[int] = Counter()
    for _ in range(_REQUESTS):
        began = time.perf_counter()
        answers[ask().status_code] += 1
        found.append(time.perf_counter() - began)
        time.sleep(0.03)  # below its own limit
    assert set(answers) == {200}, answers
    return found


@contextmanager
def _neighbour(url: str, token: str, kind: str, body: bytes) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", _HAMMER, url, token, kind], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(body)
        process.stdin.close()
        time.sleep(4)  # past what it may do at once
        yield
        process.kill()
    time.sleep(3)  # what it had under way comes to its end
