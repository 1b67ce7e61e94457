"""`python -m benchmarks.scale_out [--workers 1,2,4]`: one evaluation on more and more attack workers.

Two loads: cells that compute (every worker needs a core of its own), and cells that sleep, so that the rate is that of
the service's own protocol however few cores there are. Beside each run stand the transactions in PostgreSQL, the
commands in Redis, and the time from POST to the first claim. `--out FILE.json` writes the figures and the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import redis

from unveil.app.client.client import Client
from unveil.app.client.evaluation import Evaluation
from unveil.app.local.stack import LocalStack

_PLUGIN = Path(__file__).with_name("sleeping_scheme.py")
_CELL_SLEEP_S = 2.0
_MAX_SCHEMES = 32  # of one evaluation


@dataclass(frozen=True)
class Run:
    """seconds: from the answer to POST until the end. first_claim_s: from POST until the first cell had started."""

    load: str
    workers: int
    cells: int
    seconds: float
    cell_seconds: float  # mean, as the worker reports it
    first_claim_s: float
    transactions_per_cell: float
    redis_commands_per_cell: float


def measure(stack: LocalStack, load: str, workers: int, request: dict[str, Any]) -> Run:
    with Client(stack.url, stack.token) as client:
        transactions, commands = _count_transactions(stack), _count_commands(stack)
        started_at = time.monotonic()
        evaluation = client.evaluations.create(dataset="sample", profile="smoke", samples=0, keys=1, **request)
        evaluation.wait()
        seconds = time.monotonic() - started_at
        evaluation = client.evaluations.get(evaluation.id)
        transactions, commands = _count_transactions(stack) - transactions, _count_commands(stack) - commands
    if evaluation.status != "succeeded":
        raise RuntimeError(f"{load} on {workers} workers: {evaluation.status}")
    times = [cell.result.seconds for cell in evaluation.cells if cell.result]
    return Run(
        load=load,
        workers=workers,
        cells=len(times),
        seconds=round(seconds, 2),
        cell_seconds=round(sum(times) / len(times), 3),
        first_claim_s=round(_first_claim_s(evaluation), 3),
        transactions_per_cell=round(transactions / len(times), 1),
        redis_commands_per_cell=round(commands / len(times), 1),
    )


def _first_claim_s(evaluation: Evaluation) -> float:
    created_at, started_at = (datetime.fromisoformat(evaluation.raw[name]) for name in ("created_at", "started_at"))
    return (started_at - created_at).total_seconds()


def _count_transactions(stack: LocalStack) -> int:
    time.sleep(1.5)  # sessions report their counts once a second
    with psycopg.connect(stack.environment["UNVEIL_DATABASE_URL"]) as connection:
        query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def _count_commands(stack: LocalStack) -> int:
    with redis.Redis.from_url(stack.environment["UNVEIL_REDIS_URL"]) as connection:
        return int(connection.info("stats")["total_commands_processed"])


def requests() -> Iterator[tuple[str, dict[str, Any]]]:
    """The profile adds attacks that train nothing to the 64 requested cells of each."""
    sleeping = [
        {"name": "benchmark/sleeping", "seconds": _CELL_SLEEP_S, "number": number} for number in range(_MAX_SCHEMES)
    ]
    yield "sleeping", {"schemes": sleeping, "attacks": ["none", "fr"]}
    computing = ["pixelwise", "tanaka", "ele", "etc"]
    yield "computing", {"schemes": computing, "attacks": [{"name": "itn", "epochs": 1 + extra} for extra in range(16)]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale_out")
    parser.add_argument("--workers", default="1,2,4", help="comma-separated")
    parser.add_argument("--loads", default="sleeping,computing", help="comma-separated")
    parser.add_argument("--out", type=Path, help="write JSON")
    args = parser.parse_args()
    load_before = os.getloadavg()[0]
    runs: list[Run] = []
    print("| " + " | ".join(field.name for field in fields(Run)) + " |")
    print("|---" * len(fields(Run)) + "|")
    for workers in map(int, args.workers.split(",")):
        for run in _measure_all(workers, args.loads.split(",")):
            runs.append(run)
            print("| " + " | ".join(str(value) for value in asdict(run).values()) + " |", flush=True)
    if args.out:
        machine = f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores, load {load_before:.1f} before the run"
        args.out.write_text(json.dumps({"machine": machine, "runs": [asdict(run) for run in runs]}, indent=1) + "\n")


def _measure_all(workers: int, loads: Sequence[str]) -> Sequence[Run]:
    environment = {"UNVEIL_PLUGINS": str(_PLUGIN), "UNVEIL_REQUESTS_PER_SECOND": "1000000"}
    with (
        tempfile.TemporaryDirectory(prefix="unveil-bench-") as folder,
        LocalStack(Path(folder) / "state", port=0, attack_workers=workers, environment=environment) as stack,
    ):
        time.sleep(5)  # every worker has started
        return [measure(stack, load, workers, request) for load, request in requests() if load in loads]


if __name__ == "__main__":
    main()
