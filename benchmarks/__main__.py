"""`python -m benchmarks [--out FILE.json] [NAME ...]`: the table of ratios; names choose jobs by what they contain."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import science
from benchmarks.timing import Measured, measure
from benchmarks.training.table import races


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    done = [
        measure(job)
        for job in science.jobs()
        if not given.names or any(name.lower() in job.name.lower() for name in given.names)
    ]
    Console().print(table(done))
    trained = races(given.names)
    if given.out:
        rows = [*map(asdict, done), *map(asdict, trained)]
        given.out.write_text(json.dumps(rows, indent=2) + "\n")


def table(rows: list[Measured]) -> Table:
    shown = Table("job (per image)", "peer", "its time", "ours", "ratio", "limit")
    for row in rows:
        limit = "" if row.limit_us is None else f"{row.limit_name} {row.limit_us:.1f} us"
        shown.add_row(
            row.name, row.peer_name, f"{row.peer_us:.0f} us", f"{row.ours_us:.1f} us", f"{row.ratio:.1f}x", limit
        )
    return shown


if __name__ == "__main__":
    main()
