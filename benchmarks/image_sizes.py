"""`python -m benchmarks.image_sizes --data DIR [--sizes 32,224]`: every scheme and attack at other image sizes.

Each applicable pair runs as a cell of its own in a process of its own, on one thread, on photographs of DIR that are
resized. Seconds are of the CPU and include the controls and the training of a key; memory is the peak of the process.
Pairs that cannot run are listed with the reason that the service gives when the evaluation is created.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported: one thread, as in a worker

import resource
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from unveil.app.evaluations.planning import plan_evaluation
from unveil.app.evaluations.schemas import EvaluationCreate
from unveil.models import catalog
from unveil.models.core.images import Images
from unveil.models.core.profiles import PROFILE_IMAGE_COUNTS, PROFILES, Profile
from unveil.models.core.run_context import RunContext
from unveil.models.data.datasets import load_folder
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.evaluation.cell import run_cell
from unveil.models.evaluation.scoring import ScoringOptions


@dataclass(frozen=True)
class Measured:
    """Of one cell. outcome: its verdict, or why it failed."""

    outcome: str
    ssim: float | None
    cpu_s: float
    peak_mib: float


def resize(data: ImageDataset, side: int, profile: Profile) -> ImageDataset:
    used = data.take(*PROFILE_IMAGE_COUNTS[profile])
    return replace(used, train=_resize(used.train, side), test=_resize(used.test, side))


def _resize(images: Images, side: int) -> Images:
    return np.stack(
        [np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS)) for image in images]
    )


def plan_cells(side: int, profile: Profile) -> Iterator[tuple[dict[str, Any], dict[str, Any], str | None]]:
    """Scheme, attack, and why the service refuses the pair, for every variant of every built-in scheme."""
    attacks = [{"name": name} for name in catalog.attacks() if "/" not in name]
    entries = [catalog.flatten_settings(scheme) for scheme in catalog.known_ciphers()]
    entries += [{"name": name} for name, cls in catalog.schemes().items() if cls.trains]
    for entry in entries:
        request = {"schemes": [entry], "attacks": attacks, "dataset": "images", "profile": profile}
        for cell in plan_evaluation(EvaluationCreate.model_validate(request), {}, (side, side)).cells:
            if cell.requested:
                yield entry, {"name": cell.attack["name"]}, cell.not_applicable_reason


def measure(scheme: Mapping[str, Any], attack: Mapping[str, Any], data: ImageDataset, profile: Profile) -> Measured:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_run, args=(sender, scheme, attack, data, profile))
    process.start()
    sender.close()
    try:
        measured: Measured = receiver.recv()
    except EOFError:
        measured = Measured("the process died", None, 0, 0)
    process.join()
    return measured


def _run(
    sender: Connection, scheme: Mapping[str, Any], attack: Mapping[str, Any], data: ImageDataset, profile: Profile
) -> None:
    outcome, ssim = "", None
    try:
        result = run_cell(
            catalog.make_scheme(*_name_and_settings(scheme), profile),
            catalog.make_attack(*_name_and_settings(attack), profile),
            data,
            ScoringOptions(seed=0, profile=profile),
            RunContext(),
        ).result
        outcome, ssim = result.verdict, result.ssim.mean if result.ssim else None
    except Exception as error:  # the table shows every failure, whatever it is
        outcome = f"{type(error).__name__}: {error}"
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sender.send(Measured(outcome, ssim, round(time.process_time(), 1), round(peak_mib)))


def _name_and_settings(entry: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return entry["name"], {name: value for name, value in entry.items() if name != "name"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image_sizes")
    parser.add_argument("--data", type=Path, required=True, help="a folder in STL-10's layout or of class folders")
    parser.add_argument("--sizes", default="32,224", help="sides in pixels, comma-separated")
    parser.add_argument("--profile", choices=PROFILES, default="smoke")
    parser.add_argument("--out", type=Path, help="write JSON lines; pairs that it holds are not repeated")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load_folder(args.data)
    known = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out and args.out.exists() else []
    done = {json.dumps([row["side"], row["scheme"], row["attack"]]) for row in known}
    for side in map(int, args.sizes.split(",")):
        resized = resize(data, side, args.profile)
        for scheme, attack, reason in plan_cells(side, args.profile):
            if json.dumps([side, scheme, attack]) in done:
                continue
            row: dict[str, Any] = {"side": side, "scheme": scheme, "attack": attack, "refused": reason}
            if reason is None:
                row |= vars(measure(scheme, attack, resized, args.profile))
            print(json.dumps(row), flush=True)
            if args.out:
                with args.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
