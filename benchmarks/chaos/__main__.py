"""`python -m benchmarks.chaos [--only NAME ...] [--json FILE]`: the table; exit status 0: no harm done."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.chaos import crash_points, fuzz, interleavings, kill_storm, neighbours, uploads, walk
from benchmarks.chaos.outcome import Outcome, Tell

FAULTS: Mapping[str, Callable[[Tell], list[Outcome]]] = {
    "kill-storm": kill_storm.run,
    "crash-points": crash_points.run,
    "interleavings": interleavings.run,
    "uploads": uploads.run,
    "fuzz": fuzz.run,
    "walk": walk.run,
    "neighbours": neighbours.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos")
    parser.add_argument(
        "--only", nargs="+", choices=FAULTS, default=list(FAULTS), metavar="NAME", help=", ".join(FAULTS)
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    given = parser.parse_args()
    told = Console(stderr=True)
    rows: list[Outcome] = []
    for name in given.only:
        began = time.monotonic()
        told.print(f"{name} (load {os.getloadavg()[0]:.1f})")
        try:
            rows += FAULTS[name](lambda line: told.print(f"  {line}", highlight=False))
        except Exception as error:  # the others are still worth knowing
            told.print_exception()
            rows.append(Outcome(name, 0, 0, 1, note=f"{type(error).__name__}: {error}".splitlines()[0]))
        told.print(f"  {time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f}")
    Console().print(table(rows))
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0 if all(row.passed for row in rows) else 1


def table(rows: list[Outcome]) -> Table:
    shown = Table("fault", "tries", "survived", "lost", "seconds to recover", "")
    for row in rows:
        shown.add_row(row.fault, str(row.tries), str(row.survived), str(row.lost), row.recovery, row.note)
    return shown


if __name__ == "__main__":
    sys.exit(main())
