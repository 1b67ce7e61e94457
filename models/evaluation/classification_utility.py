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
from unveil.models.core.profiles import PROFILE_IMAGE_COUNTS, Profile
from unveil.models.core.run_context import RunContext
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.evaluation.attacker_view import ProtectImages
from unveil.models.evaluation.scoring import LEAK_CONFIDENCE, CellResult, KeyTrial, ScoringOptions
from unveil.models.metrics.intervals import binomial_interval
from unveil.models.schemes.base import Scheme
from unveil.models.training.classifier import ClassifierSettings, count_classes, predict, train_classifier

MAX_HIGH_DROP_POINTS = 3.0  # points that classification may lose and still be called High

# The plain classifier of natural96's ten classes must reach 45 % in `quick`.
CLASSIFIERS: Mapping[Profile, ClassifierSettings] = {
    "smoke": ClassifierSettings(width=4, shrink=4, by="channels", padding=None, epochs=2, batch=16, schedule="cosine"),
    "quick": ClassifierSettings(width=16, shrink=4, by="channels", padding=None, epochs=6, batch=32, schedule="cosine"),
    "paper": ClassifierSettings(by="channels", padding=None),
}
TRAINING_IMAGES: Mapping[Profile, int | None] = {"smoke": 64, "quick": 5000, "paper": None}
_ADAPTATION_WIDTH: Mapping[Profile, int] = {"smoke": 32, "quick": 128, "paper": 512}  # its width; Tanaka's is 512

_RECOGNISER_PROGRESS = 0.99  # of a cell's progress: what comes last
_TIMED_IMAGES = 64  # images whose protection is timed
_Z95 = 1.959964

CorrectMask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TrainTestImages:
    """Images of one kind, uint8 [N, H, W, 3]."""

    train: Images
    test: Images


def run_utility(
    scheme: Scheme[Any, Any], data: ImageDataset, options: ScoringOptions, context: RunContext, secret: bytes
) -> CellResult:
    """The utility of a scheme under a key. Raises AttackFailed, Cancelled, and ValueError for images it cannot take."""
    started_at = time.monotonic()
    check_labels(data)
    data = limit_to_profile(data, options.profile)
    plain = TrainTestImages(pad(data.train, scheme.size_multiple), pad(data.test, scheme.size_multiple))

    def protect(images: Images, first: int) -> Images:
        return scheme.protect(images, secret, first, context.device)

    context.report(0.0, "protecting")
    cost = _measure_cost(scheme, secret, plain.test, protect)
    protected_test = protect(plain.test, 0)
    if scheme.bound_to_classifier is not None:
        classifier = scheme.bundled_classifier(secret, data).to(context.device)
        plain_correct = predict(classifier, plain.test, context) == data.test_labels
        protected_correct = predict(classifier, protected_test, context) == data.test_labels
        training: tuple[bool | None, str] = False, scheme.bound_to_classifier
        s = classifier.settings
        classifier_description = (
            f"{s.network} of width {s.width}, images averaged down by {s.shrink}, {s.epochs} epochs on plain images"
        )
        notes = [f"judged by the classifier that its key was trained with, as it is: {classifier_description}"]
        return _build_result(plain_correct, protected_correct, training, cost, s, data, context, notes, started_at)
    protected = TrainTestImages(protect(plain.train, len(plain.test)), protected_test)
    plain_correct, protected_correct, notes = _train_both(scheme, plain, protected, data, options, context)
    training = _availability(plain_correct, protected_correct, data, "trained on protected images")
    return _build_result(
        plain_correct, protected_correct, training, cost, CLASSIFIERS[options.profile], data, context, notes, started_at
    )


def run_external_utility(data: ImageDataset, options: ScoringOptions, context: RunContext) -> CellResult:
    """The utility of an auditor's own ciphertexts, whose originals are known. Raises AttackFailed, Cancelled."""
    started_at = time.monotonic()
    if data.train_originals is None or data.test_originals is None:
        raise AttackFailed("the plain images are needed to compare with: upload the `originals`")
    check_labels(data)
    data = limit_to_profile(data, options.profile)
    assert data.train_originals is not None
    assert data.test_originals is not None
    plain, protected = (
        TrainTestImages(data.train_originals, data.test_originals),
        TrainTestImages(data.train, data.test),
    )
    plain_correct, protected_correct, notes = _train_both(None, plain, protected, data, options, context)
    cost = {"level": None, "images_per_second": None, "parameters": None}
    training = _availability(plain_correct, protected_correct, data, "trained on protected images")
    return _build_result(
        plain_correct, protected_correct, training, cost, CLASSIFIERS[options.profile], data, context, notes, started_at
    )


def limit_to_profile(data: ImageDataset, profile: Profile) -> ImageDataset:
    """The images that a profile takes: the test images of every cell, and more training images than an attack has."""
    return data.take(TRAINING_IMAGES[profile], PROFILE_IMAGE_COUNTS[profile][1])


def classifier_for(scheme: Scheme[Any, Any] | None, profile: Profile) -> ClassifierSettings:
    """What is trained on images of a scheme: Tanaka's pass through his adaptation network first."""
    tanaka = scheme is not None and scheme.name == "tanaka"
    return replace(CLASSIFIERS[profile], adaptation=_ADAPTATION_WIDTH[profile] if tanaka else 0)


def check_labels(data: ImageDataset) -> None:
    """Raises AttackFailed where a classifier cannot be trained and tested on a data set."""
    count_classes(data.train, data.train_labels)
    if not set(data.test_labels.tolist()) <= set(data.train_labels.tolist()):
        raise AttackFailed(f"utility needs training images of every class that {data.name} has test images of")
    if len(data.test) == 0:
        raise AttackFailed(f"{data.name} has no test images")


def recognition_rate(
    plain: Images,
    data: ImageDataset,
    targets: Images,
    trials: Sequence[KeyTrial],
    options: ScoringOptions,
    context: RunContext,
) -> tuple[dict[str, float] | None, list[str]]:
    """How often a classifier of plain images, as it is, names the class of a reconstruction; or a note why not.

    plain, targets: to be trained on, and what the attacks were after. The mean over the keys.
    """
    quiet_context = replace(
        context,
        report=lambda _, phase: context.report(_RECOGNISER_PROGRESS, f"recogniser: {phase}"),
        metric=lambda *_: None,
    )
    try:
        check_labels(data)
        network = train_classifier(plain, data.train_labels, CLASSIFIERS[options.profile], quiet_context)
    except AttackFailed as reason:
        return None, [f"no recogniser: {reason}"]

    def top1(images: Images) -> float:
        return float((predict(network, images, quiet_context) == data.test_labels).mean())

    figures = {
        "top1": float(np.mean([top1(r.reconstructed) for r in trials])),
        "protected": float(np.mean([top1(r.protected) for r in trials])),
        "plain": top1(targets),
        "chance": _chance(data),
    }
    return figures, []


def _train_both(
    scheme: Scheme[Any, Any] | None,
    plain: TrainTestImages,
    protected: TrainTestImages,
    data: ImageDataset,
    options: ScoringOptions,
    context: RunContext,
) -> tuple[CorrectMask, CorrectMask, list[str]]:
    """Which test images the classifier names right: plain by one trained on plain, protected by one on protected."""
    settings = CLASSIFIERS[options.profile]
    network = f"ResNet-20 of width {settings.width}, images folded by {settings.shrink}"
    notes = [f"{network}, {len(plain.train):,} training images, {settings.epochs} epochs, no augmentation"]
    classifier = train_classifier(plain.train, data.train_labels, settings, context.scoped("plain", 0.0, 0.45))
    plain_correct = predict(classifier, plain.test, context.scoped("plain", 0.45, 0.5)) == data.test_labels
    protected_settings = classifier_for(scheme, options.profile)
    if protected_settings.adaptation:
        notes.append("protected images pass through the adaptation network, trained with the classifier")
    classifier = train_classifier(
        protected.train, data.train_labels, protected_settings, context.scoped("protected", 0.5, 0.95)
    )
    protected_correct = predict(classifier, protected.test, context.scoped("protected", 0.95, 1.0)) == data.test_labels
    return plain_correct, protected_correct, notes


def _availability(
    plain_correct: CorrectMask, protected_correct: CorrectMask, data: ImageDataset, subject: str
) -> tuple[bool | None, str]:
    """Whether a classifier sees anything; None where the same one sees nothing of plain images either."""
    reason = f"a classifier {subject} names {protected_correct.mean():.1%} right (chance {_chance(data):.1%})"
    if _is_above_chance(protected_correct, data):
        return True, reason
    return (
        (False, reason)
        if _is_above_chance(plain_correct, data)
        else (None, f"{reason}; of plain images it sees no more than chance, too")
    )


def _is_above_chance(correct: CorrectMask, data: ImageDataset) -> bool:
    """Surely above the share of the most frequent class."""
    lower_bound, _ = binomial_interval(int(correct.sum()), len(correct), 2 * LEAK_CONFIDENCE - 1)
    return lower_bound > _chance(data)


def _chance(data: ImageDataset) -> float:
    return float(np.bincount(data.test_labels).max() / len(data.test_labels))


def _measure_cost(scheme: Scheme[Any, Any], secret: bytes, images: Images, protect: ProtectImages) -> dict[str, Any]:
    """Images a second, and the weights of the network where one protects."""
    images = images[:_TIMED_IMAGES]
    protect(images[:1], 0)  # whatever is made once
    times = []
    for _ in range(3):
        started_at = time.perf_counter()
        protect(images, 0)
        times.append(time.perf_counter() - started_at)
    weights = None
    if scheme.trains:
        weights = sum(p.numel() for p in scheme.key(secret, *images.shape[1:3]).parameters())
    return {
        "level": "High" if scheme.trains else "Low",
        "images_per_second": len(images) / min(times),
        "parameters": weights,
    }


def _build_result(
    plain_correct: CorrectMask,
    protected_correct: CorrectMask,
    training: tuple[bool | None, str],
    cost: Mapping[str, Any],
    settings: ClassifierSettings,
    data: ImageDataset,
    context: RunContext,
    notes: list[str],
    started_at: float,
) -> CellResult:
    drop = _accuracy_drop(plain_correct, protected_correct)
    testing = _availability(plain_correct, protected_correct, data, "asked about protected images")
    plain_above_chance = _is_above_chance(plain_correct, data)
    if not plain_above_chance:
        notes = [*notes, "the plain classifier sees no more than chance: what protection costs it cannot be told"]
    elif drop["ci_low"] <= MAX_HIGH_DROP_POINTS < drop["ci_high"]:
        notes = [*notes, f"the interval of the drop spans {MAX_HIGH_DROP_POINTS:g} points: High or Low is not certain"]
    return CellResult(
        {
            "plain": _rate_with_interval(plain_correct),
            "protected": _rate_with_interval(protected_correct),
            "drop": drop,
            "chance": _chance(data),
            "classification": ("High" if drop["points"] <= MAX_HIGH_DROP_POINTS else "Low")
            if plain_above_chance
            else None,
            "training": dict(zip(("available", "reason"), training, strict=True)),
            "testing": dict(zip(("available", "reason"), testing, strict=True)),
            "cost": dict(cost),
            "classifier": vars(settings),
            "seconds": round(time.monotonic() - started_at, 3),
            "device": context.device,
            "notes": [*data.notes, *notes],
        }
    )


def _rate_with_interval(correct: CorrectMask) -> dict[str, float]:
    low, high = binomial_interval(int(correct.sum()), len(correct), 0.95)
    return {"top1": float(correct.mean()), "ci_low": low, "ci_high": high, "n": len(correct)}


def _accuracy_drop(before: CorrectMask, after: CorrectMask) -> dict[str, float]:
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
