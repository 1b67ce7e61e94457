"""One cell of an evaluation: a scheme under an attack on a data set, scored, with its controls.

    python -m models.evaluation --scheme tanaka --attack fr --data DIR --profile paper --out DIR

runs one cell with no service around it.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models import keystream
from models.attacks.base import Attack, AttackFailed, Cancelled, Context, Material, Outcome, Pairs, ThreatModel
from models.catalog import (
    LIMITS,
    PROFILES,
    SSIM_MODES,
    ParameterError,
    Profile,
    UnknownName,
    effective_bits,
    make_attack,
    make_scheme,
    parse_spec,
    settings_of,
)  # fmt: skip
from models.datasets import Data, DatasetMissing, load_folder, sample
from models.images import Images, pad, to_png
from models.metrics import SCALES, SsimMode, binomial_interval, identification, psnr, ssim, summary
from models.schemes.base import Scheme, seed_secret
from models.verdicts import cell_verdict

POSITIVE_SSIM = 0.8  # what a learned attack must reach on the negative of the image
_LEAK_CONFIDENCE = 0.99
_CONTROL_CONFIDENCE = 0.999  # a control must not raise a false alarm once in a hundred cells


@dataclass(frozen=True)
class Options:
    """How a cell is run. keys: independent keys drawn for a keyed scheme under an attack that needs no training."""

    seed: int = 0
    keys: int = 3
    samples: int = 8
    ssim_mode: SsimMode = "rgb7"
    profile: Profile = "paper"


@dataclass(frozen=True)
class Sample:
    """A triple to look at: uint8 [H, W, 3] each; ssim is None where no original is known."""

    index: int
    ssim: float | None
    plain: Images | None
    protected: Images
    reconstructed: Images


@dataclass(frozen=True)
class Scores:
    """Per image, pooled over keys: mean SSIM, mean PSNR in dB, mean rank in the identification gallery."""

    index: npt.NDArray[np.int64]
    ssim: npt.NDArray[np.float64]
    psnr: npt.NDArray[np.float64]
    rank: npt.NDArray[np.float64]


@dataclass(frozen=True)
class CellResult:
    result: dict[str, Any]  # JSON, in the shape of the API
    samples: list[Sample] = field(default_factory=list)
    scores: Scores | None = None
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    recovered: dict[str, Any] | None = None  # explicit key material an attack found: a secret


@dataclass(frozen=True)
class _Lab:
    """The images of one cell: what is attacked, what stands behind it, and what the attacker may own."""

    targets: Images  # plain
    pool: Images  # plain, of the same owner as the targets: observed ciphertexts and pairs come from it
    public: Images  # the attacker's own


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
    """Protect, attack, score, control. `secret`: use this key; else keys are derived from the seed.

    public: the attacker's images; else half of the training split is his and the other half is the owner's.
    Raises AttackFailed, Cancelled, ValueError (images that the scheme or the metric cannot take).
    """
    started = time.monotonic()
    data = data.first(*LIMITS[options.profile])
    lab = _lab(attack, data, scheme.multiple, public)
    if attack.name == "brute-force":
        return _key_space(scheme, attack, lab, context, started)
    secrets = [secret] if secret else [_secret(options.seed, k) for k in range(1 if attack.learned else options.keys)]
    if attack.threat_model is ThreatModel.CHOSEN_PLAINTEXT and scheme.key_per_image:
        raise AttackFailed("an encryption oracle that draws a new key for every image tells nothing of earlier ones")

    rounds = []
    for number, own in enumerate(secrets):
        report = _part(context.report, number, len(secrets) + 1, len(secrets), number)
        material, protected = _material(scheme, attack, lab, own)
        outcome = attack.run(material, replace(context, report=report, seed=options.seed + number))
        rounds.append(_score(lab, protected, outcome, options))
        rounds[-1].key = _key_agreement(scheme, own, outcome, lab.targets)

    context.report(len(secrets) / (len(secrets) + 1), "controls")
    controls = run_controls(scheme, attack, lab, replace(context, report=_nothing))
    result = _pool(rounds, options) | {"controls": controls, "device": context.device}
    result["notes"] = _notes(scheme, attack, data, rounds, options, secret)
    result["paper_ssim"] = scheme.paper.ssim.get(attack.name) if scheme.paper else None
    result["key_space_bits"] = None
    result["verdict"] = cell_verdict(result)
    result["seconds"] = round(time.monotonic() - started, 3)
    first = rounds[0]
    return CellResult(
        result,
        samples=_samples(lab.targets, first, options.samples),
        scores=Scores(
            index=np.arange(len(lab.targets)),
            ssim=np.mean([r.ssim for r in rounds], axis=0),
            psnr=np.mean([r.psnr for r in rounds], axis=0),
            rank=np.mean([r.ranks[SCALES.index(result["identification"]["scale"])] for r in rounds], axis=0),
        ),
        curves=first.curves,
        recovered=None if first.outcome.key is None else scheme.dump(first.outcome.key),
    )


# --- material ---------------------------------------------------------------------------------------------------


def _lab(attack: Attack[Any], data: Data, multiple: int, public: Images | None) -> _Lab:
    targets, train = pad(data.test, multiple), pad(data.train, multiple)
    if len(targets) == 0:
        raise ValueError(f"data set {data.name} has no test images to attack")
    if public is not None:
        return _Lab(targets, train, public)
    if attack.threat_model is ThreatModel.PUBLIC_IMAGES:
        return _Lab(targets, train[0::2], train[1::2])  # the paper's T1 and T2: equal halves without a common image
    return _Lab(targets, train, train[:0])


def _secret(seed: int, number: int) -> bytes:
    """Key `number` of an evaluation: drawn from its seed, so that the evaluation can be repeated."""
    root = seed.to_bytes(32, "big", signed=True)
    return seed_secret(keystream.child(root, f"evaluation/key/{number}"))


def _material(scheme: Scheme[Any, Any], attack: Attack[Any], lab: _Lab, secret: bytes) -> tuple[Material, Images]:
    def protect(images: Images, first: int = 0) -> Images:
        return scheme.protect(images, secret, first)

    protected = protect(lab.targets)
    return _allow(scheme, attack, lab, protected, protect), protected


def _allow(
    scheme: Scheme[Any, Any], attack: Attack[Any], lab: _Lab, protected: Images, protect: Callable[..., Images]
) -> Material:
    """Only what the threat model allows: no key, and no plain image behind the targets."""
    wanted = lab.pool[: attack.observations()]
    observed = protect(wanted, len(lab.targets)) if len(wanted) else protected[:0]
    model = attack.threat_model
    return Material(
        scheme=scheme,
        targets=protected,
        observed=observed,
        public=lab.public if model is ThreatModel.PUBLIC_IMAGES else None,
        pairs=Pairs(wanted, observed) if model is ThreatModel.KNOWN_PLAINTEXT else None,
        oracle=protect if model is ThreatModel.CHOSEN_PLAINTEXT else None,
    )


# --- scores -----------------------------------------------------------------------------------------------------


@dataclass
class _Round:
    """One key's share of a cell."""

    protected: Images
    outcome: Outcome
    ssim: npt.NDArray[np.float64]
    psnr: npt.NDArray[np.float64]
    ranks: npt.NDArray[np.int64]  # [4, N]
    curves: dict[str, list[list[float]]]
    key: dict[str, Any] | None = None


def _score(lab: _Lab, protected: Images, outcome: Outcome, options: Options) -> _Round:
    seen = outcome.reconstructed
    if seen is None or seen.shape != lab.targets.shape or seen.dtype != np.uint8:
        raise AttackFailed("the attack brought back no image for each of its targets")
    curves: dict[str, list[list[float]]] = {}
    for name, x, images in outcome.sweep:
        values = ssim(lab.targets[: len(images)], images, options.ssim_mode)
        curves.setdefault(name, []).append([x, float(values.mean())])
    return _Round(
        protected,
        outcome,
        ssim(lab.targets, seen, options.ssim_mode),
        psnr(lab.targets, seen),
        identification(lab.targets, seen).ranks,
        curves,
    )


def _pool(rounds: list[_Round], options: Options) -> dict[str, Any]:
    """Figures over all keys: each image's mean over keys is one observation; the means per key stand beside."""
    values = {name: np.mean([getattr(r, name) for r in rounds], axis=0) for name in ("ssim", "psnr")}
    figures: dict[str, Any] = {
        "ssim": {"mode": options.ssim_mode, **summary(values["ssim"], options.seed)},
        "psnr": summary(values["psnr"], options.seed),
        "identification": _identified([r.ranks for r in rounds], _LEAK_CONFIDENCE),
        "key_agreement": rounds[0].key,
        "numbers": dict(rounds[0].outcome.numbers),
    }
    if len(rounds) > 1:
        figures["ssim"]["per_key"] = [float(r.ssim.mean()) for r in rounds]
        if rounds[0].key is not None:
            # the worst of the keys: exact means exact for each of them
            figures["key_agreement"] = {name: min(r.key[name] for r in rounds if r.key) for name in rounds[0].key}
    return figures


def _identified(ranks: list[npt.NDArray[np.int64]], confidence: float) -> dict[str, Any]:
    """Top-1 rate at the best scale, its 95 % interval and whether it is above chance, corrected for four scales."""
    by_key = np.stack([(r == 1).mean(axis=1) for r in ranks])  # [keys, 4]
    gallery = ranks[0].shape[1]
    best = int(by_key.mean(axis=0).argmax())
    rate = float(by_key[:, best].mean())
    low, high = binomial_interval(rate * gallery, gallery, 1 - 0.05 / len(SCALES))
    surely, _ = binomial_interval(rate * gallery, gallery, 1 - 2 * (1 - confidence) / len(SCALES))
    figures = {
        "top1": rate,
        "chance": 1 / gallery,
        "ci_low": low,
        "ci_high": high,
        "gallery": gallery,
        "scale": SCALES[best],
        "above_chance": gallery > 1 and surely > 1 / gallery,
    }
    if len(ranks) > 1:
        figures["per_key"] = [float(rate) for rate in by_key[:, best]]
    return figures


def _key_agreement(scheme: Scheme[Any, Any], secret: bytes, outcome: Outcome, targets: Images) -> dict[str, Any] | None:
    if outcome.key is None:
        return None
    true = scheme.key(secret, *targets.shape[1:3])
    shares = scheme.agreement(outcome.key, true)
    return {**shares, "exact": bool(min(shares.values()) == 1.0)}


def _samples(plain: Images, first: _Round, count: int) -> list[Sample]:
    """The worst, the best and, between them, every so many: evenly through the order of SSIM."""
    order = np.argsort(first.ssim)
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))]
    seen = first.outcome.reconstructed
    assert seen is not None
    return [Sample(int(i), float(first.ssim[i]), plain[i], first.protected[i], seen[i]) for i in chosen]


def _notes(
    scheme: Scheme[Any, Any],
    attack: Attack[Any],
    data: Data,
    rounds: list[_Round],
    options: Options,
    secret: bytes | None,
) -> list[str]:
    notes = [*data.notes, *rounds[0].outcome.notes]
    if attack.learned and options.keys > 1:
        notes.append("a learned attack is trained on the first key only")
    if secret and options.keys > 1:
        notes.append("the given key only: no further keys were drawn")
    if data.test.shape[1] % scheme.multiple or data.test.shape[2] % scheme.multiple:
        notes.append(f"images were padded to multiples of {scheme.multiple} by edge replication")
    return notes


def _key_space(
    scheme: Scheme[Any, Any], attack: Attack[Any], lab: _Lab, context: Context, started: float
) -> CellResult:
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


# --- controls ---------------------------------------------------------------------------------------------------


def run_controls(scheme: Scheme[Any, Any], attack: Attack[Any], lab: _Lab, context: Context) -> dict[str, str]:
    """Whether the instrument works: it must see through the negative of the image, and see nothing in noise.

    Positive: a learned attack must reach POSITIVE_SSIM, any other must identify above chance. Negative: on pure noise
    the attack must stay at chance, or find that there is nothing to be found.
    """
    rng = np.random.default_rng(context.seed)

    def noise(images: Images, first: int = 0) -> Images:  # noqa: ARG001
        return rng.integers(0, 256, images.shape, np.uint8)

    return {
        "positive": _control(scheme, attack, lab, context, lambda images, first=0: 255 - images, positive=True),  # noqa: ARG005
        "negative": _control(scheme, attack, lab, context, noise, positive=False),
    }


def _control(
    scheme: Scheme[Any, Any],
    attack: Attack[Any],
    lab: _Lab,
    context: Context,
    protect: Callable[..., Images],
    *,
    positive: bool,
) -> str:
    try:
        seen = attack.run(_allow(scheme, attack, lab, protect(lab.targets), protect), context).reconstructed
    except AttackFailed:
        return "failed" if positive else "passed"
    if seen is None:
        return "failed"
    if positive and attack.learned:
        return "passed" if ssim(lab.targets, seen).mean() >= POSITIVE_SSIM else "failed"
    above = _identified([identification(lab.targets, seen).ranks], _CONTROL_CONFIDENCE)["above_chance"]
    return "passed" if above is positive else "failed"


def _nothing(*_: Any) -> None:
    pass


def _part(
    report: Callable[[float, str], None], index: int, parts: int, keys: int, number: int
) -> Callable[[float, str], None]:
    """Progress of one part of the whole."""

    def inner(fraction: float, phase: str) -> None:
        report((index + fraction) / parts, phase if keys == 1 else f"{phase}, key {number + 1} of {keys}")

    return inner


# --- one cell from the command line -----------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Run one cell and write it to a folder. 0: done; 1: failed, or stopped at the limit (go on with --resume)."""
    parser = argparse.ArgumentParser(prog="python -m models.evaluation", description="Run one cell, no service needed.")
    parser.add_argument("--scheme", required=True, help="such as tanaka, tanaka:icce2018, pixelwise:different")
    parser.add_argument("--attack", required=True, help="such as none, fr, fr:L=4,nibblewise=true")
    parser.add_argument("--data", required=True, help="a folder (STL-10's layout or class folders), or `sample`")
    parser.add_argument("--profile", choices=PROFILES, default="paper")
    parser.add_argument("--out", type=Path, required=True, help="folder for result.json, scores.csv, samples/, curves")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in --out")
    parser.add_argument("--limit-seconds", type=float, default=math.inf, help="stop at a checkpoint after this long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keys", type=int, default=3)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--ssim-mode", choices=SSIM_MODES, default="rgb7")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    options = Options(given.seed, given.keys, given.samples, given.ssim_mode, given.profile)
    try:
        name, settings = parse_spec("scheme", given.scheme)
        scheme = make_scheme(name, settings, options.profile)
        name, settings = parse_spec("attack", given.attack)
        attack = make_attack(name, settings, options.profile)
        refusal = attack.refuses(scheme)
        if refusal:
            parser.error(f"{attack.name} on {scheme.name}: {refusal}")
        data = sample() if given.data == "sample" else load_folder(Path(given.data))
    except (UnknownName, ParameterError, DatasetMissing) as error:
        parser.error(str(error))

    checkpoints = given.out / "checkpoints"
    if checkpoints.exists() and not given.resume:
        shutil.rmtree(checkpoints)
    checkpoints.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + given.limit_seconds

    def report(fraction: float, phase: str) -> None:
        print(f"\r{fraction:6.1%}  {phase:<60}", end="", file=sys.stderr, flush=True)
        if time.monotonic() > deadline:
            raise Cancelled

    context = Context(seed=given.seed, device=given.device, workdir=checkpoints, report=report)
    try:
        done = run_cell(scheme, attack, data, options, context)
    except Cancelled:
        print(f"\nstopped at {given.limit_seconds:.0f} s; run again with --resume", file=sys.stderr)
        return 1
    except (AttackFailed, ValueError) as error:
        print(f"\nfailed: {error}", file=sys.stderr)
        return 1
    print(file=sys.stderr)
    settings = {"scheme": settings_of(scheme), "attack": settings_of(attack), "data": data.name, **vars(options)}
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
