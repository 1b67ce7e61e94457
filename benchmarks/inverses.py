"""`python -m benchmarks.inverses [--data DIR] [--seconds 30] [SCHEME ...]`: itn-strong beside itn, in equal time.

Both learn from the same pairs with the settings of `quick`, but for the passes over them: as many as
fit into the given seconds of one core, so that their schedules run to the end. Keys of TN-model and TN-GAN are trained
first and kept in `--work`. SSIM (rgb7) on photographs that neither has seen.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.costs import Training, cost
from unveil.models.attacks.base import Material, Pairs
from unveil.models.catalog import make_attack, make_scheme
from unveil.models.core.checkpoints import Folder
from unveil.models.core.images import Images
from unveil.models.core.profiles import PROFILES
from unveil.models.core.run_context import Context
from unveil.models.data.datasets import load_folder, sample
from unveil.models.evaluation.attacker_view import allowed, lay_out
from unveil.models.metrics.image_metrics import ssim
from unveil.models.schemes.base import Scheme, seed_secret

_TRIAL_SECONDS = 5.0  # to learn what a pair costs
_PAIRS, _TARGETS = 2000, 200


@dataclass(frozen=True)
class Reached:
    ssim: float
    seconds: float
    pairs: int
    epochs: int


def reached(name: str, material: Material, originals: Images, seconds: float) -> Reached:
    """What attack `name` reaches in so many seconds of training."""
    assert material.pairs is not None
    plain, protected = material.pairs.plain, material.pairs.protected
    trial = make_attack(name, {}, "quick")
    rate = cost(Training(name, 1, len(plain), lambda c: trial.run(material, c)), _TRIAL_SECONDS).images_per_second
    epochs = max(1, -(-round(seconds * rate) // len(plain)))
    count = min(len(plain), round(seconds * rate / epochs))
    trained = 0.0

    def look(_: float, phase: str) -> None:
        nonlocal trained
        if not phase.startswith("reconstructing"):
            trained = time.process_time()

    began = time.process_time()
    own = replace(material, pairs=Pairs(plain[:count], protected[:count]))
    seen = make_attack(name, {"epochs": epochs}, "quick").run(own, Context(report=look)).reconstructed
    assert seen is not None
    return Reached(float(ssim(originals, seen).mean()), trained - began, count, epochs)


def secret_of(scheme: Scheme[Any, Any], data: Any, work: Path) -> bytes:
    """A key from a fixed seed, or one trained before, or now."""
    if not scheme.trains:
        return seed_secret(bytes(32))
    file = work / f"{scheme.name}.key"
    if not file.exists():
        work.mkdir(parents=True, exist_ok=True)
        file.write_bytes(scheme.train(data, Context(checkpoints=Folder(work))).secret)
    return file.read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inverses")
    parser.add_argument("schemes", nargs="*", default=["tanaka", "tn-model", "tn-gan"])
    parser.add_argument("--data", default="sample", help="a folder in STL-10's layout or of class folders, or `sample`")
    parser.add_argument("--seconds", type=float, default=30, help="of training, for each")
    parser.add_argument("--work", type=Path, default=Path(".state/inverses"), help="where trained keys are kept")
    parser.add_argument("--keys", choices=PROFILES, default="quick", help="the profile of trained keys")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = sample() if given.data == "sample" else load_folder(Path(given.data))
    shown = Table("scheme", "attack", "SSIM", "seconds", "pairs", "epochs")
    for name in given.schemes:
        scheme = make_scheme(name, {}, given.keys)
        secret = secret_of(scheme, data, given.work)
        used = data.first(_PAIRS, _TARGETS)
        itn = make_attack("itn", {}, "quick")

        def protect(images: Images, first: int, scheme: Any = scheme, secret: bytes = secret) -> Images:
            return scheme.protect(images, secret, first)

        material = allowed(scheme, itn, lay_out(itn, used.test, used.train), protect)
        unattacked = float(ssim(used.test, material.targets).mean())
        shown.add_row(name, "none", f"{unattacked:.3f}", "", "", "")
        for attack in ("itn", "itn-strong"):
            found = reached(attack, material, used.test, given.seconds)
            shown.add_row(
                name, attack, f"{found.ssim:.3f}", f"{found.seconds:.0f}", str(found.pairs), str(found.epochs)
            )
            Console(stderr=True).print(name, attack, found)
    Console().print(shown)


if __name__ == "__main__":
    main()
