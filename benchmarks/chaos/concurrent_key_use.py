"""Fifty threads at once, one Idempotency-Key: one evaluation, and all of them are told its id."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
from sqlalchemy import func, select

from benchmarks.chaos.fixtures import Scene, body, scene
from benchmarks.chaos.outcome import Outcome, Tell
from unveil.app.db.tables import Evaluation

_PATIENCE_S = 300.0


def run(tell: Tell, *, rounds: int = 20, threads: int = 50) -> list[Outcome]:
    survived, twins, seconds, answers = 0, 0, [], Counter[int]()
    with scene() as there, ThreadPoolExecutor(threads) as pool:
        for number in range(rounds):
            key, start = f"round-{number}", threading.Barrier(threads)
            began = time.monotonic()
            asked = [pool.submit(_post, there, key, start, answers) for _ in range(threads)]
            ids = {one.result() for one in asked}
            seconds.append(time.monotonic() - began)
            with there.sessions() as session:
                made = session.scalar(select(func.count()).where(Evaluation.name == key)) or 0
            twins += made - 1
            survived += made == len(ids) == 1
            if made != 1 or len(ids) != 1:
                tell(f"{key}: {made} evaluations, {len(ids)} ids")
    said = ", ".join(f"{count} times {status}" for status, count in sorted(answers.items()))
    note = f"{threads} threads each round, repeating until answered: {said}; seconds until all have the id"
    return [Outcome("one idempotency key", rounds, survived, twins, seconds, note)]


def _post(there: Scene, key: str, start: threading.Barrier, answers: Counter[int]) -> str:
    headers = {**there.http.headers, "Idempotency-Key": key}
    with httpx.Client(base_url=there.stack.url, headers=headers, timeout=_PATIENCE_S) as http:
        start.wait()
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            answer = http.post("/evaluations", json=body([{"name": "none"}], name=key))
            answers[answer.status_code] += 1
            if answer.status_code not in (409, 503):  # the first still runs, or too many at once
                return str(answer.raise_for_status().json()["id"])
            time.sleep(0.2)
    raise TimeoutError(f"no answer to {key}")
