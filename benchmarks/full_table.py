"""`python -m benchmarks.full_table --data DIR [--dataset natural96] [--out DIR]`: all five schemes under all attacks.

What a user would do: start everything on this machine, order one evaluation with utility, wait, fetch the report. It is
then held against the floors of the quick profile, and the minutes and each cell's seconds are printed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from unveil.app.client.client import Client
from unveil.app.client.evaluation import Evaluation
from unveil.app.client.progress_bar import progress_bar
from unveil.app.local.stack import LocalStack

SCHEMES: list[dict[str, Any]] = [
    {"name": "pixelwise", "key_mode": "same"},
    {"name": "pixelwise", "key_mode": "different"},
    {"name": "tanaka"},
    {"name": "tn-model"},
    {"name": "tn-gan"},
]
_FORMATS = ("md", "html", "json", "zip")
console = Console(soft_wrap=False)


@dataclass(frozen=True)
class MinimumScore:
    description: str
    minimum: float
    reached: float | None  # None: the cell has no result

    @property
    def is_reached(self) -> bool:
        return self.reached is not None and self.reached >= self.minimum


def minimum_scores(evaluation: Evaluation) -> Iterator[MinimumScore]:
    """Of natural96, unseen photographs, SSIM rgb7."""
    cells = {(_scheme_label(cell.scheme), cell.attack["name"]): cell for cell in evaluation.cells}
    utility = {_scheme_label(job.scheme): job.result for job in evaluation.utility}

    def ssim(scheme: str, attack: str) -> float | None:
        cell = cells.get((scheme, attack))
        return cell.ssim if cell else None

    def gain(scheme: str) -> float | None:
        attacked, unattacked = ssim(scheme, "itn"), ssim(scheme, "none")
        return None if attacked is None or unattacked is None else attacked - unattacked

    yield MinimumScore("ITN on Tanaka", 0.70, ssim("tanaka", "itn"))
    yield MinimumScore("GAN on Tanaka", 0.40, ssim("tanaka", "gan"))
    yield MinimumScore("ITN on TN-GAN, above its ciphertexts", 0.15, gain("tn-gan"))
    yield MinimumScore("ITN on TN-model, above its ciphertexts", 0.15, gain("tn-model"))
    tn_model_utility = utility.get("tn-model")
    yield MinimumScore("plain classifier", 0.45, tn_model_utility and tn_model_utility.plain.top1)
    yield MinimumScore("TN-model: points within 10 of it", -10, tn_model_utility and -tn_model_utility.drop.points)
    unattacked = ssim("tn-model", "none")
    yield MinimumScore("TN-model: 0.3 less the SSIM of its images", 0, None if unattacked is None else 0.3 - unattacked)
    for (scheme, attack), cell in cells.items():
        controls = cell.result.controls if cell.result else None
        if controls:
            yield MinimumScore(f"controls of {attack} on {scheme}: {controls.to_json()}", 1, float(not controls.failed))
        elif cell.status != "not_applicable" and attack != "brute-force":
            yield MinimumScore(f"{attack} on {scheme}: {cell.status}", 1, None)


def _scheme_label(scheme: dict[str, Any]) -> str:
    return f"{scheme['name']}:{scheme['key_mode']}" if "key_mode" in scheme else str(scheme["name"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_table")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the dataset's folder")
    parser.add_argument("--dataset", default="natural96")
    parser.add_argument("--profile", default="quick", choices=("smoke", "quick", "paper"))
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="attacks at once")
    parser.add_argument("--out", type=Path, required=True, help="folder for report.md, .html, .json and .zip")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        environment = {"UNVEIL_DATA_DIR": str(args.data.absolute())}
        stack = LocalStack(Path(folder) / "state", 0, attack_workers=args.workers, environment=environment)
        with stack, Client(stack.url, stack.token) as client:
            started_at, load = time.monotonic(), os.getloadavg()[0]
            evaluation = client.evaluations.create(
                name=f"the {args.profile} table",
                schemes=SCHEMES,
                attacks=[attack["name"] for attack in client.attacks() if not attack["reads_upload"]],
                dataset=args.dataset,
                profile=args.profile,
                utility=True,
            )
            with progress_bar(console) as show:
                evaluation.wait(progress=show)
            minutes = (time.monotonic() - started_at) / 60
            for format in _FORMATS:
                (args.out / f"report.{format}").write_bytes(evaluation.report(format))
    console.print(_seconds_table(evaluation))
    console.print(f"{evaluation.status} in {minutes:.1f} min, {args.workers} workers; load before {load:.1f}")
    if args.profile != "quick":
        return 0 if evaluation.status == "succeeded" else 1
    missed_scores = [score for score in minimum_scores(evaluation) if not score.is_reached]
    for score in minimum_scores(evaluation):
        reached = "none" if score.reached is None else f"{score.reached:.3f}"
        console.print(
            f"{'ok' if score.is_reached else 'MISSED':>6}  {score.description}: {reached}, at least {score.minimum:g}"
        )
    return 1 if missed_scores or evaluation.status != "succeeded" else 0


def _seconds_table(evaluation: Evaluation) -> Table:
    table = Table("job", "seconds")
    timed = [
        (f"{cell.attack['name']} on {_scheme_label(cell.scheme)}", cell.result.seconds)
        for cell in evaluation.cells
        if cell.result
    ]
    timed += [
        (f"utility of {_scheme_label(job.scheme)}", job.result.seconds) for job in evaluation.utility if job.result
    ]
    provenances = [(key["scheme"], key["provenance"]) for key in evaluation.raw["keys"]]
    timed += [(f"key of {scheme}", provenance["seconds"]) for scheme, provenance in provenances if provenance]
    for name, seconds in sorted(timed, key=lambda job: -job[1]):
        table.add_row(name, f"{seconds:.0f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
