"""One cell of an evaluation: a scheme under an attack on a data set, scored, with its controls.

    python -m models.evaluation --scheme tanaka --attack fr --data DIR --profile paper --out DIR

runs one cell with no service around it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from unveil.models.attacks.base import Attack, Material, Outcome
from unveil.models.catalog import effective_bits
from unveil.models.core import keystream
from unveil.models.core.images import Images, pad
from unveil.models.core.profiles import LIMITS
from unveil.models.core.run_context import Context
from unveil.models.core.verdicts import cell_verdict
from unveil.models.data.datasets import Data
from unveil.models.evaluation.attacker_view import Lab, Protect, allowed, lay_out
from unveil.models.evaluation.controls import begin_of_controls, during_controls, run_controls
from unveil.models.evaluation.scoring import CellResult, Options, Sample, Scores, cell_result, score
from unveil.models.schemes.base import Scheme, seed_secret
from unveil.models.schemes.network import NetworkScheme

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
        from unveil.models.evaluation.classification_utility import recognised, taken

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
    from unveil.models.evaluation.classification_utility import run_external_utility, run_utility

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
