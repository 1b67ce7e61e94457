"""Recall and false alarms of `structure` and `statistics` on homemade and sound ciphers.

    python -m benchmarks.structural_detectors --data DIR --out FILE.json [--images 100] [--alarms 300]

DIR holds natural96. Each cipher protects `--images` training images of 96x96, from which the attacks take their pairs
and ciphertexts, and as many test images, on which the reconstructions are scored. --alarms: sets of random values, and
of photographs paired with random values, on which a finding is a false alarm.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.models.attacks.homemade_ciphers import SOUND, WEAK, HomemadeCipher
from unveil.models.attacks.base import AttackInput, Pairs
from unveil.models.catalog import make_attack
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.data.datasets import load_folder
from unveil.models.metrics.ssim import ssim
from unveil.models.structural.randomness import run_tests
from unveil.models.structural.recognition import recognise

FEW = 6  # pairs of the second run
ALARM_SHAPES = ((20, 32, 32, 3), (2, 48, 48, 3), (60, 16, 24, 3))


def measure(cipher: HomemadeCipher, images: Images, pairs: int, seed: int) -> dict[str, Any]:
    """What both attacks find in one cipher under one key."""
    protected = cipher.make(np.random.default_rng(seed), *images.shape[1:3])(images)
    plain, targets, ciphertexts = images[:pairs], images[pairs:], protected[:pairs]
    context = RunContext(ablation=False)
    out: dict[str, Any] = {"unattacked_ssim": float(ssim(targets, protected[pairs:]).mean())}
    for label, count in (("", pairs), ("_few", FEW)):
        known = Pairs(plain[:count], ciphertexts[:count])
        started = time.process_time()
        result = make_attack("structure", {"pairs": count}).run(
            AttackInput(None, protected[pairs:], ciphertexts[:count], pairs=known), context
        )
        out[f"structure{label}_seconds"] = round(time.process_time() - started, 2)
        out[f"structure{label}_ssim"] = float(ssim(targets, result.reconstruct_each(targets)).mean())
        out[f"structure{label}_recognised"] = bool(result.metrics["recognised"])
        out[f"structure{label}_note"] = result.notes[0]
    started = time.process_time()
    tested = make_attack("statistics", {}).run(AttackInput(None, protected[pairs:], ciphertexts), context)
    out["statistics_seconds"] = round(time.process_time() - started, 2)
    out["statistics_findings"] = int(tested.metrics["findings"])
    out["statistics_note"] = tested.notes[0]
    return out


def count_alarms(images: Images, sets: int) -> dict[str, int]:
    """Findings in random values: of the statistics, and of the structure that photographs and random values share."""
    rng = np.random.default_rng(0)
    statistics = structure = 0
    for number in range(sets):
        shape = ALARM_SHAPES[number % len(ALARM_SHAPES)]
        statistics += run_tests(rng.integers(0, 256, shape, np.uint8))[0].significant
        start = rng.integers(0, len(images) - shape[0])
        plain = np.ascontiguousarray(images[start : start + shape[0], : shape[1], : shape[2]])
        structure += recognise(plain, rng.integers(0, 256, shape, np.uint8)).found is not None
    return {"sets": sets, "statistics": statistics, "structure": structure}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--alarms", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data = load_folder(arguments.data / "natural96")
    count = arguments.images
    images = np.concatenate([data.train[:count], data.test[:count]])
    found: dict[str, Any] = {}
    for name, cipher in {**WEAK, **SOUND}.items():
        found[name] = measure(cipher, images, count, arguments.seed)
        print(name, json.dumps(found[name]), flush=True)
    report = {"ciphers": found, "alarms": count_alarms(data.train[count : count + 500], arguments.alarms)}
    print(report["alarms"], flush=True)
    arguments.out.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
