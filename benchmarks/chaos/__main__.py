"""`python -m benchmarks.chaos [--only NAME ...] [--json FILE]`: the table; exit status 0: no harm done."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.chaos import (
    api_killed,
    broker_wiped,
    cancel,
    clock,
    concurrent_key_use,
    crash_points,
    cross_tenant,
    database_restart,
    fuzz,
    interleavings,
    job_limits,
    kill_storm,
    noisy_neighbour,
    poison_job,
    resume,
    soak,
    storage_fails,
    trained_key,
    uploads,
    zombie,
)
from benchmarks.chaos.outcome import FaultResult, ProgressCallback

FAULTS: Mapping[str, Callable[[ProgressCallback], list[FaultResult]]] = {
    "kill-storm": kill_storm.run,
    "crash-points": crash_points.run,
    "zombie": zombie.run,
    "broker-wiped": broker_wiped.run,
    "database-restart": database_restart.run,
    "api-killed": api_killed.run,
    "poison-job": poison_job.run,
    "storage-fails": storage_fails.run,
    "interleavings": interleavings.run,
    "cancel": cancel.run,
    "concurrent-key-use": concurrent_key_use.run,
    "clock": clock.run,
    "job-limits": job_limits.run,
    "resume": resume.run,
    "trained-key": trained_key.run,
    "soak": soak.run,
    "uploads": uploads.run,
    "fuzz": fuzz.run,
    "cross-tenant": cross_tenant.run,
    "noisy-neighbour": noisy_neighbour.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos")
    parser.add_argument(
        "--only", nargs="+", choices=FAULTS, default=list(FAULTS), metavar="NAME", help=", ".join(FAULTS)
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    args = parser.parse_args()
    console = Console(stderr=True)
    rows: list[FaultResult] = []
    for name in args.only:
        started_at = time.monotonic()
        console.print(f"{name} (load {os.getloadavg()[0]:.1f})")
        try:
            found = FAULTS[name](lambda line: console.print(f"  {line}", highlight=False))
            rows += [replace(row, load=round(os.getloadavg()[0], 1)) for row in found]
        except Exception as error:  # the others are still worth knowing
            console.print_exception()
            rows.append(FaultResult(name, 0, 0, 1, note=f"{type(error).__name__}: {error}".splitlines()[0]))
        console.print(f"  {time.monotonic() - started_at:.0f} s, load {os.getloadavg()[0]:.1f}")
    Console(width=None if sys.stdout.isatty() else 1000).print(table(rows))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0 if all(row.passed for row in rows) else 1


def table(rows: list[FaultResult]) -> Table:
    # Markdown, ready to paste into docs/results.md#fault-injection.
    table = Table("fault", "tries", "survived", "lost", "seconds to recover", "load", "", box=box.MARKDOWN)
    for row in rows:
        load = "" if row.load is None else str(row.load)
        table.add_row(row.fault, str(row.tries), str(row.survived), str(row.lost), row.recovery, load, row.note)
    return table


if __name__ == "__main__":
    sys.exit(main())
