"""One cell of an evaluation: a scheme under an attack on a data set, scored, with its controls.

    python -m models.evaluation --scheme tanaka --attack fr --data DIR --profile paper --out DIR

runs one cell with no service around it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models import keystream
from models.attacks.base import Attack, AttackFailed, Cancelled, Context, Material, Outcome
from models.catalog import (
    LIMITS,
    PROFILES,
    SSIM_MODES,
    UTILITY,
    ParameterError,
    UnknownName,
    effective_bits,
    images_taken,
    make_attack,
    make_scheme,
    parse_spec,
    settings_of,
)
from models.checkpoints import Folder
from models.controls import begin_of_controls, during_controls, run_controls
from models.datasets import Data, DatasetMissing, load_folder, sample
from models.images import Images, pad, to_png
from models.lab import Lab, Protect, allowed, lay_out
from models.schemes.base import Scheme, seed_secret
from models.schemes.network import NetworkScheme
from models.scoring import CellResult, Options, Sample, Scores, cell_result, score
from models.verdicts import cell_verdict

__all__ = ["CellResult", "Options", "Sample", "Scores", "measure_utility", "run_cell"]

_SAME_IMAGES = "the public images are the training images: half of these are the attacker's, half the owner's"
_KEY_SHARE = 0.5  # of the progress bar, where a key is trained first


def run_cell(
    scheme: Scheme[Any, Any],
    attack: Attack[Any],
    data: Data,
    options: Options,
    context: Context,
    *,
    secret: bytes | None = None,
    public: Images | None = None,
) -> CellResult:
    """Protect, attack, score, control. `secret`: use this key; else keys are derived from the seed, or one is trained.

    public: the attacker's images; without them, or where they are the training split itself, half of that is his and
    the other half is the owner's.
    Raises AttackFailed, Cancelled, ValueError (images that the scheme or the metric cannot take).
    """
    started = time.monotonic()
    whole, data = data, data.first(*LIMITS[options.profile])
    if len(data.test) == 0:
        raise ValueError(f"data set {data.name} has no test images to attack")
    if public is not None and np.array_equal(public, whole.train):
        public, data = None, replace(data, notes=(*data.notes, _SAME_IMAGES))
    public = None if public is None else pad(public, scheme.multiple)
    lab = lay_out(attack, pad(data.test, scheme.multiple), pad(data.train, scheme.multiple), public)
    if attack.name == "brute-force":
        return _key_space(scheme, attack, lab, context, started)

    provenance = None
    if scheme.trains and secret is None:
        trained = scheme.train(whole, context.part("key", 0, _KEY_SHARE))
        secret, provenance = trained.secret, trained.provenance
        context = replace(context, report=_from(context.report, _KEY_SHARE))
    secrets = [secret] if secret else [_secret(options.seed, k) for k in range(1 if attack.trains() else options.keys)]
    end = begin_of_controls(attack, len(secrets))
    rounds = []
    for number, own in enumerate(secrets):
        report = _part(context.report, number, len(secrets), end)
        report(0.0, "protecting")  # also where a job is cancelled whose attack never reports
        material = allowed(scheme, attack, lab, _protection(scheme, own, replace(context, report=report)), number)
        outcome = attack.run(material, replace(context, report=report, seed=options.seed + number))
        agreement = _key_agreement(scheme, own, outcome, lab.targets)
        rounds.append(score(data.test, material.targets, outcome, options, agreement))

    controls, shared = run_controls(scheme, attack, lab, during_controls(context, end))
    recogniser, unrecognised = None, list[str]()
    if options.utility:
        from models.utility import recognised, taken

        of = taken(whole, options.profile)
        recogniser, unrecognised = recognised(of.train, of, data.test, rounds, options, context)
    found = rounds[0].outcome.key
    recovered = None if found is None else scheme.dump(found)
    notes = [*_notes(scheme, attack, data, options, secret), *shared, *unrecognised]
    paper = scheme.paper.ssim.get(attack.name) if scheme.paper else None
    done = cell_result(data.test, rounds, options, context, controls, notes, paper, started, recovered)
    more = {"trained_key": provenance, "recogniser": recogniser}
    return replace(done, result={**done.result, **{name: value for name, value in more.items() if value}})


def _secret(seed: int, number: int) -> bytes:
    """Key `number` of an evaluation: drawn from its seed, so that the evaluation can be repeated."""
    root = seed.to_bytes(32, "big", signed=True)
    return seed_secret(keystream.child(root, f"evaluation/key/{number}"))


def measure_utility(
    scheme: Scheme[Any, Any] | None, data: Data, options: Options, context: Context, *, secret: bytes | None = None
) -> CellResult:
    """What protection costs a classifier (models/utility.py), under the key that `run_cell` takes first.

    Without a scheme: of uploaded ciphertexts. Raises AttackFailed, Cancelled, ValueError.
    """
    from models.utility import run_external_utility, run_utility

    if scheme is None:
        return run_external_utility(data, options, context)
    if scheme.trains and secret is None:
        secret = scheme.train(data, context.part("key", 0, _KEY_SHARE)).secret
        context = replace(context, report=_from(context.report, _KEY_SHARE))
    return run_utility(scheme, data, options, context, secret or _secret(options.seed, 0))


def _protection(scheme: Scheme[Any, Any], secret: bytes, context: Context) -> Protect:
    if not isinstance(scheme, NetworkScheme):
        return lambda images, first: scheme.protect(images, secret, first)

    def protect(images: Images, first: int) -> Images:  # noqa: ARG001 - one key for all
        key = scheme.key(secret, *images.shape[1:3]).to(context.device)
        return scheme.encrypt(images, key, lambda: context.report(0.0, "protecting"))  # minutes: let a cancel in

    return protect


def _key_agreement(scheme: Scheme[Any, Any], secret: bytes, outcome: Outcome, targets: Images) -> dict[str, Any] | None:
    if outcome.key is None:
        return None
    true = scheme.key(secret, *targets.shape[1:3])
    shares = scheme.agreement(outcome.key, true)
    return {**shares, "exact": bool(min(shares.values()) == 1.0)}


def _notes(
    scheme: Scheme[Any, Any],
    attack: Attack[Any],
    data: Data,
    options: Options,
    secret: bytes | None,
) -> list[str]:
    notes = [*data.notes]
    if options.keys > 1 and scheme.trains:
        notes.append("a key is a trained network: one, no further keys were drawn")
    elif options.keys > 1 and secret:
        notes.append("the given key only: no further keys were drawn")
    elif options.keys > 1 and attack.trains():
        notes.append("an attack that trains a network is made on the first key only")
    if data.test.shape[1] % scheme.multiple or data.test.shape[2] % scheme.multiple:
        padded = f"images were padded to multiples of {scheme.multiple} by edge replication"
        notes.append(f"{padded}; what that added is not scored")
    return notes


def _key_space(scheme: Scheme[Any, Any], attack: Attack[Any], lab: Lab, context: Context, started: float) -> CellResult:
    height, width = lab.targets.shape[1:3]
    outcome = attack.run(Material(scheme, lab.targets[:0], lab.targets[:0]), context)
    result: dict[str, Any] = {
        "ssim": None,
        "psnr": None,
        "identification": None,
        "key_agreement": None,
        "key_space_bits": outcome.numbers["key_space_bits"],
        "effective_bits": effective_bits(scheme, height, width),
        "paper_ssim": None,
        "controls": None,
        "device": context.device,
        "notes": [f"for one image of {width}x{height}", *outcome.notes],
        "numbers": {},
    }
    result["verdict"] = cell_verdict(result)
    result["seconds"] = round(time.monotonic() - started, 3)
    return CellResult(result)


def _from(report: Callable[[float, str], None], begin: float) -> Callable[[float, str], None]:
    return lambda fraction, phase: report(begin + (1 - begin) * fraction, phase)


def _part(report: Callable[[float, str], None], number: int, keys: int, end: float) -> Callable[[float, str], None]:
    """Progress of the attack on one key of several, which together come to `end`."""

    def inner(fraction: float, phase: str) -> None:
        report(end * (number + fraction) / keys, phase if keys == 1 else f"{phase}, key {number + 1} of {keys}")

    return inner


# --- one cell from the command line -----------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.evaluation", description="Run one cell, no service needed.")
    parser.add_argument("--scheme", required=True, help="such as tanaka, tanaka:icce2018, pixelwise:different")
    parser.add_argument("--attack", required=True, help="such as none, fr, fr:L=4,nibblewise=true; or utility")
    parser.add_argument("--data", required=True, help="a folder (STL-10's layout or class folders), or `sample`")
    parser.add_argument("--profile", choices=PROFILES, default="paper")
    parser.add_argument("--out", type=Path, required=True, help="folder for result.json, scores.csv, samples/, curves")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in --out")
    parser.add_argument(
        "--limit-seconds",
        type=float,
        default=math.inf,
        help="stop after this long; what a training has learned by then is kept",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keys", type=int, default=3)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--ssim-mode", choices=SSIM_MODES, default="rgb7")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--utility", action="store_true", help="classify the reconstructions, too")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one cell and write it to a folder. 0: done; 1: failed, or stopped at the limit (go on with --resume)."""
    parser = _parser()
    given = parser.parse_args(arguments)
    options = Options(given.seed, given.keys, given.samples, given.ssim_mode, given.profile, given.utility)
    try:
        name, settings = parse_spec("scheme", given.scheme)
        scheme = make_scheme(name, settings, options.profile)
        attack = None  # none: utility
        if given.attack != UTILITY:
            name, settings = parse_spec("attack", given.attack)
            attack = make_attack(name, settings, options.profile)
            refusal = attack.refuses(scheme)
            if refusal:
                parser.error(f"{attack.name} on {scheme.name}: {refusal}")
        data = sample() if given.data == "sample" else load_folder(Path(given.data))
    except (UnknownName, ParameterError, DatasetMissing) as error:
        parser.error(str(error))

    if not given.limit_seconds >= 0:  # nor is nan
        parser.error("--limit-seconds: must be at least 0")
    checkpoints = given.out / "checkpoints"
    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {given.out}: {error.strerror}")
    if not given.resume:
        for old in checkpoints.rglob("*.ckpt*"):  # and nothing else that may lie there
            old.unlink()
    deadline = time.monotonic() + given.limit_seconds

    def report(fraction: float, phase: str) -> None:
        print(f"\r{fraction:6.1%}  {phase:<60}", end="", file=sys.stderr, flush=True)
        if time.monotonic() > deadline:
            raise Cancelled

    context = Context(
        seed=given.seed, device=given.device, checkpoints=Folder(checkpoints), report=report, deadline=deadline
    )
    try:
        done = (
            run_cell(scheme, attack, data, options, context)
            if attack
            else measure_utility(scheme, data, options, context)
        )
    except Cancelled:
        print(f"\nstopped at {given.limit_seconds:.0f} s; run again with --resume", file=sys.stderr)
        return 1
    except (AttackFailed, ValueError) as error:
        print(f"\nfailed: {error}", file=sys.stderr)
        return 1
    print(file=sys.stderr)
    of_attack = settings_of(attack) if attack else {"name": UTILITY}
    images = images_taken(options.profile)
    if attack is None:
        from models.utility import TRAINING_IMAGES

        images["training_images"] = TRAINING_IMAGES[options.profile]
    settings = {"scheme": settings_of(scheme), "attack": of_attack, "data": data.name, **vars(options), **images}
    write_cell(done, settings, given.out)
    print(json.dumps({**settings, "result": done.result}, indent=2))
    return 0


def write_cell(done: CellResult, settings: Mapping[str, Any], out: Path) -> None:
    """result.json, curves.json, scores.csv and samples/ of a finished cell."""
    (out / "result.json").write_text(json.dumps({**settings, "result": done.result}, indent=2) + "\n")
    (out / "curves.json").write_text(json.dumps(done.curves) + "\n")
    if done.scores is not None:
        columns = np.column_stack([done.scores.index, done.scores.ssim, done.scores.psnr, done.scores.rank])
        np.savetxt(out / "scores.csv", columns, "%d,%.6f,%.4f,%.2f", header="index,ssim,psnr,rank", comments="")
    (out / "samples").mkdir(exist_ok=True)
    for triple in done.samples:
        for kind in ("plain", "protected", "reconstructed"):
            image = getattr(triple, kind)
            if image is not None:
                (out / "samples" / f"{triple.index}-{kind}.png").write_bytes(to_png(image))


if __name__ == "__main__":
    sys.exit(main())
