"""`make chaos`: workers and Redis are killed at random while cells run; every cell must end, once, with its result.

    python -m benchmarks.chaos [--cells 40] [--seconds 40] [--seed 0]

On a stack of its own in a temporary folder; bounded in count and time. Exit status 0 when nothing was lost.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console

from app.local import LocalStack

PATIENCE_S = 300
ENDED = {"succeeded", "failed", "cancelled"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos")
    parser.add_argument("--cells", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=40, help="how long to go on killing")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    dice, told = random.Random(given.seed), Console()
    # Lost work is to be found again within seconds, and a storm must not look like poison.
    os.environ |= {"UNVEIL_LEASE_S": "6", "UNVEIL_HEARTBEAT_S": "1", "UNVEIL_SWEEP_S": "2", "UNVEIL_MAX_STALLS": "1000"}
    with tempfile.TemporaryDirectory() as folder, LocalStack(Path(folder), port=0, durable=False) as stack:
        http = httpx.Client(
            base_url=stack.url, headers={"Authorization": f"Bearer {stack.token}"}, timeout=30,
            transport=httpx.HTTPTransport(retries=3),
        )  # fmt: skip
        while not stack.ready():
            time.sleep(0.2)
        ids = _order(http, given.cells)
        kills = _storm(stack, dice, given.seconds, told)
        cells = _wait(http, stack, ids)
    statuses = Counter(cell["status"] for cell in cells)
    whole = sum(cell["status"] == "succeeded" and cell["result"]["ssim"]["n"] == 32 for cell in cells)
    told.print(f"{len(cells)} cells, {dict(kills)} killed: {dict(statuses)}, {whole} with a whole result,")
    told.print(f"attempts: {dict(sorted(Counter(cell['attempt'] for cell in cells).items()))}")
    return 0 if whole == len(cells) else 1


def _order(http: httpx.Client, cells: int) -> list[str]:
    """Two cells each, so that evaluations have to be ended too."""
    entry = {
        "schemes": [{"name": "tanaka"}], "attacks": [{"name": "none"}, {"name": "fr"}],
        "dataset": "sample", "profile": "smoke", "samples": 1, "keys": 1,
    }  # fmt: skip
    answers = [http.post("/evaluations", json={**entry, "seed": seed}) for seed in range(cells // 2)]
    return [answer.raise_for_status().json()["id"] for answer in answers]


def _storm(stack: LocalStack, dice: random.Random, seconds: float, told: Console) -> Counter[str]:
    """SIGKILL a random attack worker, or one of its pool, every 2 s; Redis once in the middle."""
    kills: Counter[str] = Counter()
    start = time.monotonic()
    while time.monotonic() < start + seconds:
        time.sleep(2)
        victims = _processes("worker.celery_app", "attack") or []
        if victims:
            victim = dice.choice(victims)
            victim.kill()
            kills["workers"] += 1
        if time.monotonic() > start + seconds / 2 and not kills["redis"]:
            for server in _processes("redis-server", str(stack.state)):
                server.kill()
                kills["redis"] += 1
        for name in stack.restart_dead():
            told.print(f"  {time.monotonic() - start:5.1f} s: {name} started again")
    return kills


def _processes(*words: str) -> list[psutil.Process]:
    """Our descendants whose command line has every word, and their children."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if all(word in " ".join([*process.cmdline(), process.cwd()]) for word in words):
                found += [process, *process.children()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _wait(http: httpx.Client, stack: LocalStack, ids: list[str]) -> list[dict[str, Any]]:
    until = time.monotonic() + PATIENCE_S
    while True:
        stack.restart_dead()
        bodies = [http.get(f"/evaluations/{id}").json() for id in ids]
        if all(body["status"] in ENDED for body in bodies) or time.monotonic() > until:
            return [cell for body in bodies for cell in body["cells"]]
        time.sleep(2)


if __name__ == "__main__":
    sys.exit(main())
