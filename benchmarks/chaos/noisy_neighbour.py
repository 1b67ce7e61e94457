"""One account at its limits, and what another notices of it: the median time of its requests, alone and beside; and
how many cells of a full queue are begun before its first.
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

from benchmarks.chaos.fixtures import SCHEMES, ChaosEnvironment, chaos_environment, evaluation_body
from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from tests.sample_images import png
from unveil.app.db.tables import Cell, Evaluation
from unveil.app.security.principal import SCOPES

_MAX_SLOWDOWN = 1.20
_ROUNDS, _REQUESTS = 5, 40
_QUEUED_CELLS, _ORDERS = 100, 10

# The neighbour lives in a process of its own, which has what all others leave of the machine (to be nice is not enough
# for that): in truth its computer is another one. The kernel shares the processors among sessions first, and among the
# processes of a session afterwards, so the session needs the lowest weight as well.
_LOAD_SCRIPT = """
import os, pathlib, sys, threading, httpx
autogroup = pathlib.Path("/proc/self/autogroup")
if autogroup.exists():
    autogroup.write_text("19")
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


def run(log_progress: ProgressCallback) -> list[FaultResult]:
    with chaos_environment(UNVEIL_REQUESTS_PER_SECOND="50") as environment:
        tokens = [
            environment.http.post("/accounts", json={"name": name, "scopes": [*SCOPES]}).json()["token"]
            for name in ("greedy", "quiet")
        ]
        with httpx.Client(
            base_url=environment.stack.url, headers={"Authorization": f"Bearer {tokens[1]}"}, timeout=60
        ) as http:
            key = http.post("/keys", json={"scheme": "tanaka"}).json()["id"]
            image_form = {"images": ("a.png", png(0, 96, 96), "image/png")}
            requests_by_name: dict[str, Callable[[], httpx.Response]] = {
                "reading": lambda: http.get(f"/keys/{key}"),
                "encrypting": lambda: http.post("/encrypt", data={"key_id": key}, files=image_form),
            }
            outcomes = []
            for kind, body in (("read", b""), ("encrypt", png(1, 1000, 1000))):
                for name, send_request in requests_by_name.items():
                    outcomes.append(
                        _measure_under_load(
                            log_progress, environment.stack.url, tokens[0], kind, body, name, send_request
                        )
                    )
            outcomes.append(_measure_behind_queue(log_progress, environment, tokens[0], http))
            return outcomes


def _measure_under_load(
    log_progress: ProgressCallback,
    url: str,
    token: str,
    kind: str,
    body: bytes,
    name: str,
    send_request: Callable[[], httpx.Response],
) -> FaultResult:
    quiet_times: list[float] = []
    loaded_times: list[float] = []
    for _ in range(_ROUNDS):  # in turn, so that a drifting machine is unfair to neither
        quiet_times += _request_times(send_request)
        with _run_load(url, token, kind, body):
            loaded_times += _request_times(send_request)
    ratio = statistics.median(loaded_times) / statistics.median(quiet_times)
    log_progress(
        f"{name} beside {kind}: {statistics.median(quiet_times) * 1e3:.1f} ms alone, {ratio:.2f} times that beside"
    )
    note = f"{ratio:.2f} times its {statistics.median(quiet_times) * 1e3:.1f} ms"
    return FaultResult(f"{name} beside one at its limit ({kind})", 1, int(ratio <= _MAX_SLOWDOWN), 0, note=note)


def _measure_behind_queue(
    log_progress: ProgressCallback, environment: ChaosEnvironment, busy_token: str, http: httpx.Client
) -> FaultResult:
    """Survived: of the other's cells that wait, one at most is begun between an order and its first cell: its turn."""
    order = evaluation_body([{"name": "none"}])
    for _ in range(_QUEUED_CELLS // len(SCHEMES)):
        many = evaluation_body([{"name": "none"}], schemes=SCHEMES)
        environment.http.post(
            "/evaluations", json=many, headers={"Authorization": f"Bearer {busy_token}"}
        ).raise_for_status()
    overtaken = []
    for _ in range(_ORDERS):
        id = http.post("/evaluations", json=order).raise_for_status().json()["id"]
        environment.wait_until(lambda id=id: environment.have_ended([id]), "an order behind a full queue")
        with environment.sessions() as session:
            evaluation_times = session.execute(
                select(Evaluation.created_at, func.min(Cell.started_at).label("started_at"))
                .join(Cell)
                .where(Cell.evaluation_id == id)
                .group_by(Evaluation.created_at)
            ).one()
            between = Cell.started_at.between(evaluation_times.created_at, evaluation_times.started_at) & (
                Cell.evaluation_id != id
            )
            overtaken.append(session.scalar(select(func.count()).select_from(Cell).where(between)) or 0)
    with environment.sessions() as session:
        queued_left = session.scalar(select(func.count()).select_from(Cell).where(Cell.finished_at.is_(None)))
    assert queued_left, "the queue was over before the orders were"
    log_progress(
        f"behind {_QUEUED_CELLS} cells of another: {overtaken} of them begun first, {queued_left} left at the end"
    )
    note = f"{_QUEUED_CELLS} cells of the other wait; begun before the one that is ordered: at most {max(overtaken)}"
    return FaultResult("an order behind a full queue", _ORDERS, sum(begun <= 1 for begun in overtaken), 0, note=note)


def _request_times(send_request: Callable[[], httpx.Response]) -> list[float]:
    times = []
    answers: Counter[int] = Counter()
    for _ in range(_REQUESTS):
        started_at = time.perf_counter()
        answers[send_request().status_code] += 1
        times.append(time.perf_counter() - started_at)
        time.sleep(0.03)  # below its own limit
    assert set(answers) == {200}, answers
    return times


@contextmanager
def _run_load(url: str, token: str, kind: str, body: bytes) -> Iterator[None]:
    command = [sys.executable, "-c", _LOAD_SCRIPT, url, token, kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdin is not None
        process.stdin.write(body)
        process.stdin.close()
        time.sleep(4)  # past what it may do at once
        yield
        process.kill()
    time.sleep(3)  # what it had under way comes to its end
