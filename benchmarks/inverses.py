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

from benchmarks.costs import Training, measure_cost
from unveil.models.attacks.base import AttackInput, Pairs
from unveil.models.catalog import make_attack, make_scheme
from unveil.models.core.checkpoints import DirectoryStore
from unveil.models.core.images import Images
from unveil.models.core.profiles import PROFILES
from unveil.models.core.run_context import RunContext
from unveil.models.data.datasets import load_folder
from unveil.models.data.sample import sample
from unveil.models.evaluation.attacker_view import build_attack_input, split_images
from unveil.models.metrics.ssim import ssim
from unveil.models.schemes.base import Scheme, seed_secret

_TRIAL_SECONDS = 5.0  # to learn what a pair costs
_PAIRS, _TARGETS = 2000, 200


@dataclass(frozen=True)
class QualityAtTime:
    ssim: float
    seconds: float
    pairs: int
    epochs: int


def train_for_seconds(name: str, attack_input: AttackInput, originals: Images, seconds: float) -> QualityAtTime:
    """What attack `name` reaches in so many seconds of training."""
    assert attack_input.pairs is not None
    plain, protected = attack_input.pairs.plain, attack_input.pairs.protected
    trial = make_attack(name, {}, "quick")
    rate = measure_cost(
        Training(name, 1, len(plain), lambda c: trial.run(attack_input, c)), _TRIAL_SECONDS
    ).images_per_second
    epochs = max(1, -(-round(seconds * rate) // len(plain)))
    count = min(len(plain), round(seconds * rate / epochs))
    trained_at = 0.0

    def on_report(_: float, phase: str) -> None:
        nonlocal trained_at
        if not phase.startswith("reconstructing"):
            trained_at = time.process_time()

    started_at = time.process_time()
    used_input = replace(attack_input, pairs=Pairs(plain[:count], protected[:count]))
    reconstructed = (
        make_attack(name, {"epochs": epochs}, "quick").run(used_input, RunContext(report=on_report)).reconstructed
    )
    assert reconstructed is not None
    return QualityAtTime(float(ssim(originals, reconstructed).mean()), trained_at - started_at, count, epochs)


def load_or_train_secret(scheme: Scheme[Any, Any], data: Any, work: Path) -> bytes:
    """A key from a fixed seed, or one trained before, or now."""
    if not scheme.trains:
        return seed_secret(bytes(32))
    file = work / f"{scheme.name}.key"
    if not file.exists():
        work.mkdir(parents=True, exist_ok=True)
        file.write_bytes(scheme.train(data, RunContext(checkpoints=DirectoryStore(work))).secret)
    return file.read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inverses")
    parser.add_argument("schemes", nargs="*", default=["tanaka", "tn-model", "tn-gan"])
    parser.add_argument("--data", default="sample", help="a folder in STL-10's layout or of class folders, or `sample`")
    parser.add_argument("--seconds", type=float, default=30, help="of training, for each")
    parser.add_argument("--work", type=Path, default=Path(".state/inverses"), help="where trained keys are kept")
    parser.add_argument("--keys", choices=PROFILES, default="quick", help="the profile of trained keys")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = sample() if args.data == "sample" else load_folder(Path(args.data))
    table = Table("scheme", "attack", "SSIM", "seconds", "pairs", "epochs")
    for name in args.schemes:
        scheme = make_scheme(name, {}, args.keys)
        secret = load_or_train_secret(scheme, data, args.work)
        used_data = data.take(_PAIRS, _TARGETS)
        itn = make_attack("itn", {}, "quick")

        def protect(images: Images, first: int, scheme: Any = scheme, secret: bytes = secret) -> Images:
            return scheme.protect(images, secret, first)

        attack_input = build_attack_input(scheme, itn, split_images(itn, used_data.test, used_data.train), protect)
        ciphertext_ssim = float(ssim(used_data.test, attack_input.targets).mean())
        table.add_row(name, "none", f"{ciphertext_ssim:.3f}", "", "", "")
        for attack in ("itn", "itn-strong"):
            result = train_for_seconds(attack, attack_input, used_data.test, args.seconds)
            table.add_row(
                name, attack, f"{result.ssim:.3f}", f"{result.seconds:.0f}", str(result.pairs), str(result.epochs)
            )
            Console(stderr=True).print(name, attack, result)
    Console().print(table)


if __name__ == "__main__":
    main()
