"""The service killed ten times while orders come in: what a client was promised exists, and no order exists twice."""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import httpx
from sqlalchemy import select

from benchmarks.chaos.fixtures import ChaosEnvironment, chaos_environment, evaluation_body
from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from unveil.app.db.tables import Evaluation

_TIMEOUT_S = 900.0


@dataclass
class _ClientLog:
    """What clients saw: ids answered by 202 for each idempotency key, and tries without an answer."""

    ids_by_key: dict[str, set[str]] = field(default_factory=dict)
    unanswered: int = 0


def run(
    log_progress: ProgressCallback, *, posts: int = 500, kills: int = 10, clients: int = 8, seed: int = 0
) -> list[FaultResult]:
    rng, client_log, seconds = random.Random(seed), _ClientLog(), []
    keys = [f"order-{number}" for number in range(posts)]
    with (
        chaos_environment(durable=True) as environment,
        _client(environment) as http,
        ThreadPoolExecutor(clients) as pool,
    ):
        environment.stack.stop_service(
            "worker-attack"
        )  # what is asked here is whether orders exist; they are run afterwards
        futures = [pool.submit(_post, http, key, client_log) for key in keys]
        for number in range(1, kills + 1):
            # Spread over the posts: one kill at a random place of each tenth of them.
            _await_answers(client_log, posts * (number - 1) // kills + rng.randrange(1, posts // kills))
            environment.kill("api")
            seconds.append(environment.wait_until(environment.is_live, "the service"))
            log_progress(f"killed at {len(client_log.ids_by_key)} of {posts} answered; back after {seconds[-1]:.1f} s")
        wait(futures)
        for future in futures:
            future.result()
        environment.stack.start_service("worker-attack")
        with environment.sessions() as session:
            rows = session.execute(select(Evaluation.id, Evaluation.name)).all()
        existing_ids, duplicates = (
            {row.id for row in rows},
            sum(n - 1 for n in Counter(row.name for row in rows).values()),
        )
        broken_promises = sum(not ids <= existing_ids or len(ids) != 1 for ids in client_log.ids_by_key.values())
        environment.wait_until_ended(*existing_ids, timeout_s=900)
        damaged = environment.count_damaged_cells(sorted(existing_ids))
    note = (
        f"{posts} orders by {clients} clients, {client_log.unanswered} requests died unanswered and were repeated; "
        f"{len(existing_ids)} evaluations, {duplicates} twins, {broken_promises} promises broken, all run to their end"
    )
    lost = broken_promises + duplicates + damaged + (posts - len(existing_ids))
    return [FaultResult("API killed", kills, len(seconds), lost, seconds, note)]


def _await_answers(client_log: _ClientLog, count: int) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while len(client_log.ids_by_key) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(client_log.ids_by_key)} orders answered; {count} awaited")
        time.sleep(0.01)


def _client(environment: ChaosEnvironment) -> httpx.Client:
    """All clients' one, since to make one takes time that the service needs to start; without retries of its own."""
    return httpx.Client(base_url=environment.stack.url, headers=environment.http.headers, timeout=30)


def _post(http: httpx.Client, key: str, client_log: _ClientLog) -> None:
    """Repeat under the same key until there is an answer to keep; every third repeats once more."""
    answers_needed = 1 + (int(key.split("-")[1]) % 3 == 0)
    deadline = time.monotonic() + _TIMEOUT_S
    while answers_needed:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no answer to {key}")
        try:
            order = evaluation_body([{"name": "none"}], name=key)
            answer = http.post("/evaluations", json=order, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            client_log.unanswered += 1
            time.sleep(0.2)
            continue
        if answer.status_code in (409, 503):  # the first try still runs, or died and its lock has not run out
            time.sleep(0.5)
            continue
        client_log.ids_by_key.setdefault(key, set()).add(answer.raise_for_status().json()["id"])
        answers_needed -= 1
