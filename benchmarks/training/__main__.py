"""`python -m benchmarks.training [NAME ...]`: every network, ours beside an eager loop over a DataLoader.

On a CUDA device where there is one. Names choose networks by what they contain.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from benchmarks.training.table import DEVICE, MEASUREMENT_COUNT, SECONDS, compare_all


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--profile", choices=("quick", "paper"), default="quick")
    parser.add_argument("--batch", type=int, help="instead of the profile's")
    parser.add_argument("--device", choices=("cpu", "cuda"), default=DEVICE)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one turn")
    parser.add_argument("--laps", type=int, default=MEASUREMENT_COUNT)
    parser.add_argument("--out", type=Path, help="JSON")
    args = parser.parse_args()
    rows = compare_all(args.names, args.profile, args.batch, args.device, args.seconds, args.laps)
    if args.out:
        args.out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
