"""What protection costs a classifier, and its owner: the last columns of the paper's Table 2 (SCIENCE section 6).

The same classifier is trained once on plain and once on protected images, without augmentation, which would tear what
a key has put together; it is tested on protected test images. Where a scheme's images serve one finished classifier
only (TN-model), that classifier stays as it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images, pad
from unveil.models.core.profiles import LIMITS, Profile
from unveil.models.core.run_context import Context
from unveil.models.data.datasets import Data
from unveil.models.evaluation.attacker_view import Protect
from unveil.models.evaluation.scoring import LEAK_CONFIDENCE, CellResult, Options, Round
from unveil.models.metrics.image_metrics import binomial_interval
from unveil.models.schemes.base import Scheme
from unveil.models.training.classifier import ClassifierSettings, count_classes, predict, train_classifier

HIGH_DROP = 3.0  # points that classification may lose and still be called High

# The plain classifier of natural96's ten classes must reach 45 % in `quick`.
CLASSIFIERS: Mapping[Profile, ClassifierSettings] = {
    "smoke": ClassifierSettings(width=4, shrink=4, by="channels", padding=None, epochs=2, batch=16, schedule="cosine"),
    "quick": ClassifierSettings(width=16, shrink=4, by="channels", padding=None, epochs=6, batch=32, schedule="cosine"),
    "paper": ClassifierSettings(by="channels", padding=None),
}
TRAINING_IMAGES: Mapping[Profile, int | None] = {"smoke": 64, "quick": 5000, "paper": None}
_ADAPTATION: Mapping[Profile, int] = {"smoke": 32, "quick": 128, "paper": 512}  # its width; Tanaka's is 512

_ALMOST = 0.99  # of a cell's progress: what comes last
_TIMED = 64  # images whose protection is timed
_Z95 = 1.959964

Hits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """Images of one kind, uint8 [N, H, W, 3]."""

    train: Images
    test: Images


def run_utility(scheme: Scheme[Any, Any], data: Data, options: Options, context: Context, secret: bytes) -> CellResult:
    """The utility of a scheme under a key. Raises AttackFailed, Cancelled, and ValueError for images it cannot take."""
    started = time.monotonic()
    refuse(data)
    data = taken(data, options.profile)
    plain = Split(pad(data.train, scheme.multiple), pad(data.test, scheme.multiple))

    def protect(images: Images, first: int) -> Images:
        return scheme.protect(images, secret, first, context.device)

    context.report(0.0, "protecting")
    cost = _cost(scheme, secret, plain.test, protect)
    protected_test = protect(plain.test, 0)
    if scheme.only_for is not None:
        judge = scheme.judge(secret, data).to(context.device)
        before = predict(judge, plain.test, context) == data.test_labels
        after = predict(judge, protected_test, context) == data.test_labels
        training: tuple[bool | None, str] = False, scheme.only_for
        s = judge.settings
        whose = f"{s.network} of width {s.width}, images averaged down by {s.shrink}, {s.epochs} epochs on plain images"
        notes = [f"judged by the classifier that its key was trained with, as it is: {whose}"]
        return _result(before, after, training, cost, s, data, context, notes, started)
    protected = Split(protect(plain.train, len(plain.test)), protected_test)
    before, after, notes = _trained(scheme, plain, protected, data, options, context)
    training = _available(before, after, data, "trained on protected images")
    return _result(before, after, training, cost, CLASSIFIERS[options.profile], data, context, notes, started)


def run_external_utility(data: Data, options: Options, context: Context) -> CellResult:
    """The utility of an auditor's own ciphertexts, whose originals are known. Raises AttackFailed, Cancelled."""
    started = time.monotonic()
    if data.train_originals is None or data.test_originals is None:
        raise AttackFailed("the plain images are needed to compare with: upload the `originals`")
    refuse(data)
    data = taken(data, options.profile)
    assert data.train_originals is not None
    assert data.test_originals is not None
    plain, protected = Split(data.train_originals, data.test_originals), Split(data.train, data.test)
    before, after, notes = _trained(None, plain, protected, data, options, context)
    cost = {"level": None, "images_per_second": None, "parameters": None}
    training = _available(before, after, data, "trained on protected images")
    return _result(before, after, training, cost, CLASSIFIERS[options.profile], data, context, notes, started)


def taken(data: Data, profile: Profile) -> Data:
    """The images that a profile takes: the test images of every cell, and more training images than an attack has."""
    return data.first(TRAINING_IMAGES[profile], LIMITS[profile][1])


def classifier_for(scheme: Scheme[Any, Any] | None, profile: Profile) -> ClassifierSettings:
    """What is trained on images of a scheme: Tanaka's pass through his adaptation network first."""
    tanaka = scheme is not None and scheme.name == "tanaka"
    return replace(CLASSIFIERS[profile], adaptation=_ADAPTATION[profile] if tanaka else 0)


def refuse(data: Data) -> None:
    """Raises AttackFailed where a classifier cannot be trained and tested on a data set."""
    count_classes(data.train, data.train_labels)
    if not set(data.test_labels.tolist()) <= set(data.train_labels.tolist()):
        raise AttackFailed(f"utility needs training images of every class that {data.name} has test images of")
    if len(data.test) == 0:
        raise AttackFailed(f"{data.name} has no test images")


def recognised(
    plain: Images, data: Data, targets: Images, rounds: Sequence[Round], options: Options, context: Context
) -> tuple[dict[str, float] | None, list[str]]:
    """How often a classifier of plain images, as it is, names the class of a reconstruction; or a note why not.

    plain, targets: to be trained on, and what the attacks were after. The mean over the keys.
    """
    quiet = replace(
        context, report=lambda _, phase: context.report(_ALMOST, f"recogniser: {phase}"), metric=lambda *_: None
    )
    try:
        refuse(data)
        network = train_classifier(plain, data.train_labels, CLASSIFIERS[options.profile], quiet)
    except AttackFailed as reason:
        return None, [f"no recogniser: {reason}"]

    def top1(images: Images) -> float:
        return float((predict(network, images, quiet) == data.test_labels).mean())

    figures = {
        "top1": float(np.mean([top1(r.seen) for r in rounds])),
        "protected": float(np.mean([top1(r.protected) for r in rounds])),
        "plain": top1(targets),
        "chance": _chance(data),
    }
    return figures, []


def _trained(
    scheme: Scheme[Any, Any] | None, plain: Split, protected: Split, data: Data, options: Options, context: Context
) -> tuple[Hits, Hits, list[str]]:
    """Which test images the classifier names right: plain by one trained on plain, protected by one on protected."""
    settings = CLASSIFIERS[options.profile]
    network = f"ResNet-20 of width {settings.width}, images folded by {settings.shrink}"
    notes = [f"{network}, {len(plain.train):,} training images, {settings.epochs} epochs, no augmentation"]
    judge = train_classifier(plain.train, data.train_labels, settings, context.part("plain", 0.0, 0.45))
    before = predict(judge, plain.test, context.part("plain", 0.45, 0.5)) == data.test_labels
    of_protected = classifier_for(scheme, options.profile)
    if of_protected.adaptation:
        notes.append("protected images pass through the adaptation network, trained with the classifier")
    judge = train_classifier(protected.train, data.train_labels, of_protected, context.part("protected", 0.5, 0.95))
    after = predict(judge, protected.test, context.part("protected", 0.95, 1.0)) == data.test_labels
    return before, after, notes


def _available(before: Hits, after: Hits, data: Data, what: str) -> tuple[bool | None, str]:
    """Whether a classifier sees anything; None where the same one sees nothing of plain images either."""
    said = f"a classifier {what} names {after.mean():.1%} right (chance {_chance(data):.1%})"
    if _sees(after, data):
        return True, said
    return (False, said) if _sees(before, data) else (None, f"{said}; of plain images it sees no more than chance, too")


def _sees(hits: Hits, data: Data) -> bool:
    """Surely above the share of the most frequent class."""
    surely, _ = binomial_interval(int(hits.sum()), len(hits), 2 * LEAK_CONFIDENCE - 1)
    return surely > _chance(data)


def _chance(data: Data) -> float:
    return float(np.bincount(data.test_labels).max() / len(data.test_labels))


def _cost(scheme: Scheme[Any, Any], secret: bytes, images: Images, protect: Protect) -> dict[str, Any]:
    """Images a second, and the weights of the network where one protects."""
    images = images[:_TIMED]
    protect(images[:1], 0)  # whatever is made once
    times = []
    for _ in range(3):
        began = time.perf_counter()
        protect(images, 0)
        times.append(time.perf_counter() - began)
    weights = None
    if scheme.trains:
        weights = sum(p.numel() for p in scheme.key(secret, *images.shape[1:3]).parameters())
    return {
        "level": "High" if scheme.trains else "Low",
        "images_per_second": len(images) / min(times),
        "parameters": weights,
    }


def _result(
    before: Hits,
    after: Hits,
    training: tuple[bool | None, str],
    cost: Mapping[str, Any],
    settings: ClassifierSettings,
    data: Data,
    context: Context,
    notes: list[str],
    started: float,
) -> CellResult:
    drop = _drop(before, after)
    testing = _available(before, after, data, "asked about protected images")
    sighted = _sees(before, data)
    if not sighted:
        notes = [*notes, "the plain classifier sees no more than chance: what protection costs it cannot be told"]
    elif drop["ci_low"] <= HIGH_DROP < drop["ci_high"]:
        notes = [*notes, f"the interval of the drop spans {HIGH_DROP:g} points: High or Low is not certain"]
    return CellResult(
        {
            "plain": _rate(before),
            "protected": _rate(after),
            "drop": drop,
            "chance": _chance(data),
            "classification": ("High" if drop["points"] <= HIGH_DROP else "Low") if sighted else None,
            "training": dict(zip(("available", "reason"), training, strict=True)),
            "testing": dict(zip(("available", "reason"), testing, strict=True)),
            "cost": dict(cost),
            "classifier": vars(settings),
            "seconds": round(time.monotonic() - started, 3),
            "device": context.device,
            "notes": [*data.notes, *notes],
        }
    )


def _rate(hits: Hits) -> dict[str, float]:
    low, high = binomial_interval(int(hits.sum()), len(hits), 0.95)
    return {"top1": float(hits.mean()), "ci_low": low, "ci_high": high, "n": len(hits)}


def _drop(before: Hits, after: Hits) -> dict[str, float]:
    """Points of accuracy lost, on the same images: Bonett and Price's interval for paired shares (2012)."""
    n = len(before)
    lost, won = (int((a & ~b).sum()) for a, b in ((before, after), (after, before)))
    p, q = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    spread = _Z95 * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return {
        "points": 100 * (lost - won) / n,
        "ci_low": 100 * max(-1.0, p - q - spread),
        "ci_high": 100 * min(1.0, p - q + spread),
    }
