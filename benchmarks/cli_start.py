"""CPU seconds that commands of `unveil` take: `python -m benchmarks.cli_start`, on a running `unveil local`.

CPU time and not wall time, so that the server's share and other work on the machine do not count.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

STARTS = 10
COMMANDS = ("--version", "--help", "encrypt --help", "keys list", "evaluations list")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, default=Path(".state/up"), help="state folder of the local stack")
    state = parser.parse_args().state
    print(f"| command | mean of {STARTS} | smallest | largest |\n|---|---|---|---|")
    for command in COMMANDS:
        arguments = command.split() if "--" in command else [*command.split(), "--state", str(state)]
        _measure_cpu_seconds(arguments)  # writes the bytecode of all modules
        seconds = [_measure_cpu_seconds(arguments) for _ in range(STARTS)]
        print(f"| `unveil {command}` | {sum(seconds) / STARTS:.2f} s | {min(seconds):.2f} s | {max(seconds):.2f} s |")


def _measure_cpu_seconds(arguments: list[str]) -> float:
    """User and system time of the command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "from unveil.app.cli import main; main()"
    subprocess.run([sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
