"""`python -m models.evaluation`: run one cell without the service."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unveil.models.catalog import (
    SSIM_MODES,
    UTILITY,
    ParameterError,
    UnknownName,
    add_plugins,
    flatten_settings,
    make_attack,
    make_scheme,
    origins,
    parse_spec,
)
from unveil.models.core.checkpoints import DirectoryStore
from unveil.models.core.errors import AttackFailed, Cancelled
from unveil.models.core.images import to_png
from unveil.models.core.profiles import PROFILES, profile_image_counts
from unveil.models.core.run_context import RunContext
from unveil.models.data.datasets import load_folder
from unveil.models.data.image_dataset import DatasetMissing, DatasetUnreadable
from unveil.models.data.sample import sample
from unveil.models.evaluation.cell import measure_utility, run_cell
from unveil.models.evaluation.outcome import AnyOutcome
from unveil.models.evaluation.scoring import ScoringOptions


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m unveil.models.evaluation", description="Run one cell, without the service."
    )
    parser.add_argument("--scheme", required=True, help="such as tanaka, tanaka:icce2018, pixelwise:different")
    parser.add_argument("--attack", required=True, help="such as none, fr, fr:L=4:nibblewise=true; or utility")
    parser.add_argument("--data", required=True, help="a folder (STL-10's layout or class folders), or `sample`")
    parser.add_argument("--profile", choices=PROFILES, default="paper")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for result.json, evidence.json, scores.csv, samples/, curves"
    )
    parser.add_argument("--resume", action="store_true", help="resume from the checkpoints in --out")
    parser.add_argument(
        "--limit-seconds",
        type=float,
        default=math.inf,
        help="stop after this long; checkpoints are kept",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keys", type=int, default=3)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--ssim-mode", choices=SSIM_MODES, default="rgb7")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE|MODULE", help="load a plug-in; may be repeated"
    )
    parser.add_argument("--utility", action="store_true", help="also classify the reconstructions")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one cell and write it to a folder. Exit status 1: failed, or stopped at the limit (resume with --resume)."""
    parser = _build_parser()
    given = parser.parse_args(arguments)
    add_plugins(given.plugin)
    options = ScoringOptions(given.seed, given.keys, given.samples, given.ssim_mode, given.profile, given.utility)
    try:
        name, settings = parse_spec("scheme", given.scheme)
        scheme = make_scheme(name, settings, options.profile)
        attack = None  # None measures utility
        if given.attack != UTILITY:
            name, settings = parse_spec("attack", given.attack)
            attack = make_attack(name, settings, options.profile)
            refusal = attack.not_applicable_reason(scheme)
            if refusal:
                parser.error(f"{attack.name} on {scheme.name}: {refusal}")
        data = sample() if given.data == "sample" else load_folder(Path(given.data))
    except (UnknownName, ParameterError, DatasetMissing, DatasetUnreadable) as error:
        parser.error(str(error))

    if not given.limit_seconds >= 0:  # refuses nan too
        parser.error("--limit-seconds: must be at least 0")
    checkpoints = given.out / "checkpoints"
    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {given.out}: {error.strerror}")
    if not given.resume:
        for old in checkpoints.rglob("*.ckpt*"):  # leaves other files alone
            old.unlink()
    deadline = time.monotonic() + given.limit_seconds

    def report(fraction: float, phase: str) -> None:
        print(f"\r{fraction:6.1%}  {phase:<60}", end="", file=sys.stderr, flush=True)
        if time.monotonic() > deadline:
            raise Cancelled

    context = RunContext(
        seed=given.seed, device=given.device, checkpoints=DirectoryStore(checkpoints), report=report, deadline=deadline
    )
    try:
        outcome: AnyOutcome = (
            run_cell(scheme, attack, data, options, context)
            if attack
            else measure_utility(scheme, data, options, context)
        )
    except Cancelled:
        print(f"\nstopped at {given.limit_seconds:.0f} s; run again with --resume", file=sys.stderr)
        return 1
    except (AttackFailed, ValueError, ModuleNotFoundError) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None  # all but torch's are dependencies
        reason = f"{missing} is not installed: pip install 'unveil[torch]'" if missing else error
        print(f"\nfailed: {reason}", file=sys.stderr)
        return 1
    print(file=sys.stderr)
    attack_settings = flatten_settings(attack) if attack else {"name": UTILITY}
    images = profile_image_counts(options.profile)
    if attack is None:
        from unveil.models.evaluation.classification_utility import TRAINING_IMAGES

        images["training_images"] = TRAINING_IMAGES[options.profile]
    settings = {
        "scheme": flatten_settings(scheme),
        "attack": attack_settings,
        "data": data.name,
        **vars(options),
        **images,
    }
    print(write_cell(outcome, settings, given.out))
    return 0


def write_cell(outcome: AnyOutcome, settings: Mapping[str, Any], out: Path) -> str:
    """Writes the files of a finished cell. Returns the text of result.json.

    evidence.json holds what the verdict was computed from.
    """
    result = outcome.result.to_json()
    evidence = result.pop("evidence", None)
    origin = origins(settings["scheme"]["name"], settings["attack"]["name"])
    text = json.dumps({**settings, "origin": origin, "result": result}, indent=2)
    (out / "result.json").write_text(text + "\n")
    if evidence is not None:
        (out / "evidence.json").write_text(json.dumps(evidence) + "\n")
    (out / "curves.json").write_text(json.dumps(outcome.curves) + "\n")
    if outcome.scores is not None:
        scores = outcome.scores
        vif = np.full(len(scores.index), np.nan) if scores.vif is None else scores.vif  # nan: too small images
        columns = np.column_stack([scores.index, scores.ssim, scores.psnr, scores.rank, vif])
        np.savetxt(
            out / "scores.csv", columns, "%d,%.6f,%.4f,%.2f,%.6f", header="index,ssim,psnr,rank,vif", comments=""
        )
    (out / "samples").mkdir(exist_ok=True)
    for stored in outcome.samples:
        for kind in ("plain", "protected", "reconstructed"):
            image = getattr(stored, kind)
            if image is not None:
                (out / "samples" / f"{stored.index}-{kind}.png").write_bytes(to_png(image))
    return text
