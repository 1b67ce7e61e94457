"""`python -m benchmarks [NAME ...]`: run all benchmarks or the named ones and print a table of ratios to peers.

`--out FILE.json` writes the figures and the machine. docs/results.md explains every row.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported: one thread, as in a worker

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import database, encryption, fixtures, polling, science
from benchmarks.identification import identification
from benchmarks.results import TABLE_HEADER, Curve, Goal, Row
from benchmarks.timing import measure
from unveil.app.local.stack import LocalStack

Results = Iterator[Row | Curve]


def _training() -> Results:
    """One row for each network; `python -m benchmarks.training` prints the details."""
    import torch

    from benchmarks.training.table import compare_all

    torch.set_num_threads(len(os.sched_getaffinity(0)))  # one training uses all cores
    for comparison in compare_all(()):
        peer = ("eager loop, DataLoader", comparison.peer)
        goal = Goal("at least", 3 if torch.cuda.is_available() else 1.3, of="ratio")
        yield Row(
            f"training, {comparison.name}, batch {comparison.batch}",
            "images/s",
            comparison.ours,
            peer,
            comparison.ratio,
            goal=goal,
        )


OFFLINE: dict[str, Callable[[], Results]] = {
    "kernels": lambda: map(measure, science.kernels()),
    "png": lambda: iter([science.size_of_png()]),
    "recovery": lambda: map(measure, science.recovery()),
    "identification": identification,
    "training": _training,
}
# All on one stack, in this order: memory comes last because the others warm the processes up.
NEEDS_STACK: dict[str, Callable[[LocalStack], Results]] = {
    "latency": encryption.latency,
    "rate": encryption.rate,
    "database": database.database,
    "polling": polling.polling,
    "memory": encryption.memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed against named peers and limits.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of: {', '.join([*OFFLINE, *NEEDS_STACK])}; all by default"
    )
    parser.add_argument("--out", type=Path, help="write JSON")
    args = parser.parse_args()
    if unknown := set(args.names) - {*OFFLINE, *NEEDS_STACK}:
        parser.error(
            f"unknown benchmark {', '.join(sorted(unknown))}; choose from {', '.join([*OFFLINE, *NEEDS_STACK])}"
        )
    started_at, load = time.strftime("%Y-%m-%d %H:%M"), os.getloadavg()[0]
    results = list(_run(args.names or [*OFFLINE, *NEEDS_STACK]))
    rows = [row for row in results if isinstance(row, Row)]
    curves = [curve for curve in results if isinstance(curve, Curve)]
    machine = f"{started_at}, {os.cpu_count()} cores, {_processor()}, load {load:.1f} before the run"
    table = Table(*TABLE_HEADER)
    for row in rows:
        table.add_row(*row.format_cells())
    Console().print(table)
    print(*(curve.sentence() for curve in curves), machine, sep="\n")
    if args.out:
        record = {"machine": machine, "rows": [row.as_json() for row in rows], "curves": [c.as_json() for c in curves]}
        args.out.write_text(json.dumps(record, indent=1) + "\n")


def _run(names: list[str]) -> Results:
    for name, run_offline in OFFLINE.items():
        if name in names:
            yield from run_offline()
    with ExitStack() as exit_stack:
        selected = [run for name, run in NEEDS_STACK.items() if name in names]
        stack = exit_stack.enter_context(fixtures.stack()) if selected else None
        for run in selected:
            yield from run(stack)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
