"""The service killed ten times while orders come in: what a client was promised exists, and no order exists twice."""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import httpx
from sqlalchemy import select

from benchmarks.chaos.fixtures import Scene, body, scene
from benchmarks.chaos.outcome import Outcome, Tell
from unveil.app.db.tables import Evaluation

_PATIENCE_S = 900.0


@dataclass
class _Seen:
    """What clients saw: ids answered by 202 for each idempotency key, and tries without an answer."""

    promised: dict[str, set[str]] = field(default_factory=dict)
    unanswered: int = 0


def run(tell: Tell, *, posts: int = 500, kills: int = 10, clients: int = 8, seed: int = 0) -> list[Outcome]:
    dice, seen, seconds = random.Random(seed), _Seen(), []
    keys = [f"order-{number}" for number in range(posts)]
    with scene(durable=True) as there, _client(there) as http, ThreadPoolExecutor(clients) as pool:
        there.stack.stop_part("worker-attack")  # what is asked here is whether orders exist; they are run afterwards
        asking = [pool.submit(_post, http, key, seen) for key in keys]
        for number in range(1, kills + 1):
            # Spread over the posts: one kill at a random place of each tenth of them.
            _await_answers(seen, posts * (number - 1) // kills + dice.randrange(1, posts // kills))
            there.kill("api")
            seconds.append(there.wait(there.answers, "the service"))
            tell(f"killed at {len(seen.promised)} of {posts} answered; back after {seconds[-1]:.1f} s")
        wait(asking)
        for asked in asking:
            asked.result()
        there.stack.start_part("worker-attack")
        with there.sessions() as session:
            rows = session.execute(select(Evaluation.id, Evaluation.name)).all()
        exist, twins = {row.id for row in rows}, sum(n - 1 for n in Counter(row.name for row in rows).values())
        broken = sum(not ids <= exist or len(ids) != 1 for ids in seen.promised.values())
        there.until_ended(*exist, patience_s=900)
        harmed = there.harmed(sorted(exist))
    note = (
        f"{posts} orders by {clients} clients, {seen.unanswered} requests died unanswered and were repeated; "
        f"{len(exist)} evaluations, {twins} twins, {broken} promises broken, all run to their end"
    )
    lost = broken + twins + harmed + (posts - len(exist))
    return [Outcome("API killed", kills, len(seconds), lost, seconds, note)]


def _await_answers(seen: _Seen, count: int) -> None:
    until = time.monotonic() + _PATIENCE_S
    while len(seen.promised) < count:
        if time.monotonic() > until:
            raise TimeoutError(f"{len(seen.promised)} orders answered; {count} awaited")
        time.sleep(0.01)


def _client(there: Scene) -> httpx.Client:
    """All clients' one, since to make one takes time that the service needs to start; without retries of its own."""
    return httpx.Client(base_url=there.stack.url, headers=there.http.headers, timeout=30)


def _post(http: httpx.Client, key: str, seen: _Seen) -> None:
    """Repeat under the same key until there is an answer to keep; every third repeats once more."""
    left = 1 + (int(key.split("-")[1]) % 3 == 0)
    until = time.monotonic() + _PATIENCE_S
    while left:
        if time.monotonic() > until:
            raise TimeoutError(f"no answer to {key}")
        try:
            order = body([{"name": "none"}], name=key)
            answer = http.post("/evaluations", json=order, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            seen.unanswered += 1
            time.sleep(0.2)
            continue
        if answer.status_code in (409, 503):  # the first try still runs, or died and its lock has not run out
            time.sleep(0.5)
            continue
        seen.promised.setdefault(key, set()).add(answer.raise_for_status().json()["id"])
        left -= 1
