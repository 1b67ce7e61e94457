"""`python -m benchmarks.cost_accuracy [--data DIR] [--profile quick] [CELL ...]`: how good the estimated costs are.

Each cell, `SCHEME/ATTACK`, is estimated as in an evaluation of its own and then runs here, on one thread. Seconds are
of the CPU, however busy the machine. The service promises a factor of three: a ratio from 1/3 to 3.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported: one thread, as in a worker

import time
from pathlib import Path

import torch

from unveil.app.evaluations.cost import estimate_cost
from unveil.app.evaluations.planning import plan_evaluation
from unveil.app.evaluations.schemas import EvaluationCreate
from unveil.models import catalog
from unveil.models.catalog import DatasetInfo
from unveil.models.core.profiles import PROFILES, Profile
from unveil.models.core.run_context import RunContext
from unveil.models.data.datasets import load_folder
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.data.sample import sample
from unveil.models.evaluation.cell import run_cell
from unveil.models.evaluation.scoring import ScoringOptions

CELLS = (
    "pixelwise:same/none", "pixelwise:same/key-recovery", "pixelwise:different/simulated-pairs", "pixelwise:same/gan",
    "tanaka/fr", "tanaka/itn", "tanaka/itn-strong", "etc/key-recovery", "vit-permutation/linkage", "tn-gan/itn",
)  # fmt: skip


def estimate(scheme: str, attack: str, data: ImageDataset, profile: Profile) -> float:
    """Core seconds, of the key too if the scheme trains one."""
    entries = []
    for kind, spec in (("scheme", scheme), ("attack", attack)):
        name, settings = catalog.parse_spec(kind, spec)
        entries.append({"name": name, **settings})
    request = {"schemes": entries[:1], "attacks": entries[1:], "dataset": "images", "profile": profile}
    body = EvaluationCreate.model_validate(request)
    height, width = data.test.shape[1:3]
    images = DatasetInfo(data.name, len(data.train), len(data.test), width, height)
    planned = plan_evaluation(body, {}, (height, width))
    cost = estimate_cost(planned.cells, planned.keys, {None: images}, profile, body.keys, None)
    of_cell = next(c for c, cell in zip(cost.cells, planned.cells, strict=True) if cell.requested)
    return of_cell + sum(cost.keys.values())


def measure(scheme: str, attack: str, data: ImageDataset, profile: Profile) -> float:
    """Core seconds."""
    made = (catalog.make_scheme(*catalog.parse_spec("scheme", scheme), profile),
            catalog.make_attack(*catalog.parse_spec("attack", attack), profile))  # fmt: skip
    started_at = time.process_time()
    run_cell(*made, data, ScoringOptions(seed=0, profile=profile), RunContext())
    return time.process_time() - started_at


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost_accuracy")
    parser.add_argument("cells", nargs="*", metavar="SCHEME/ATTACK", default=CELLS)
    parser.add_argument("--data", default="sample", help="a folder in STL-10's layout or of class folders, or `sample`")
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = sample() if args.data == "sample" else load_folder(Path(args.data))
    print("| cell | estimated, core s | measured, core s | ratio |\n|---|---|---|---|")
    for cell in args.cells:
        scheme, _, attack = cell.partition("/")
        estimated = estimate(scheme, attack, data, args.profile)
        measured = measure(scheme, attack, data, args.profile)
        print(f"| {cell} | {estimated:.1f} | {measured:.1f} | {estimated / measured:.2f} |", flush=True)


if __name__ == "__main__":
    main()
