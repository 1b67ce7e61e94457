"""Fifty threads at once, one Idempotency-Key: one evaluation, and all of them are told its id."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
from sqlalchemy import func, select

from benchmarks.chaos.fixtures import ChaosEnvironment, chaos_environment, evaluation_body
from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from unveil.app.db.tables import Evaluation

_TIMEOUT_S = 300.0


def run(log_progress: ProgressCallback, *, rounds: int = 20, threads: int = 50) -> list[FaultResult]:
    survived, duplicates, seconds, answers = 0, 0, [], Counter[int]()
    with chaos_environment() as environment, ThreadPoolExecutor(threads) as pool:
        for number in range(rounds):
            key, start = f"round-{number}", threading.Barrier(threads)
            started_at = time.monotonic()
            futures = [pool.submit(_post, environment, key, start, answers) for _ in range(threads)]
            ids = {future.result() for future in futures}
            seconds.append(time.monotonic() - started_at)
            with environment.sessions() as session:
                evaluation_count = session.scalar(select(func.count()).where(Evaluation.name == key)) or 0
            duplicates += evaluation_count - 1
            survived += evaluation_count == len(ids) == 1
            if evaluation_count != 1 or len(ids) != 1:
                log_progress(f"{key}: {evaluation_count} evaluations, {len(ids)} ids")
    answer_counts = ", ".join(f"{count} times {status}" for status, count in sorted(answers.items()))
    note = f"{threads} threads each round, repeating until answered: {answer_counts}; seconds until all have the id"
    return [FaultResult("one idempotency key", rounds, survived, duplicates, seconds, note)]


def _post(environment: ChaosEnvironment, key: str, start: threading.Barrier, answers: Counter[int]) -> str:
    headers = {**environment.http.headers, "Idempotency-Key": key}
    with httpx.Client(base_url=environment.stack.url, headers=headers, timeout=_TIMEOUT_S) as http:
        start.wait()
        deadline = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < deadline:
            answer = http.post("/evaluations", json=evaluation_body([{"name": "none"}], name=key))
            answers[answer.status_code] += 1
            if answer.status_code not in (409, 503):  # the first still runs, or too many at once
                return str(answer.raise_for_status().json()["id"])
            time.sleep(0.2)
    raise TimeoutError(f"no answer to {key}")
