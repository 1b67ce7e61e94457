"""What protection costs a classifier: the last columns of the paper's Table 2 (SCIENCE section 6).

The same classifier is trained once on plain and once on protected images, and tested on protected images. No
augmentation: crops would break the block structure of the cipher. A scheme that is bound to one classifier (TN-model)
is tested with that classifier.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unveil.models.core.cell_result import (
    AccuracyDrop,
    AccuracyRate,
    Availability,
    Level,
    ProtectionCost,
    RecognitionRate,
    UtilityResult,
)
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images, pad
from unveil.models.core.profiles import PROFILE_IMAGE_COUNTS, Profile
from unveil.models.core.run_context import RunContext
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.evaluation.attacker_view import ProtectImages
from unveil.models.evaluation.outcome import CellOutcome
from unveil.models.evaluation.scoring import KeyTrial, ScoringOptions
from unveil.models.evaluation.utility_classifiers import CLASSIFIERS, classifier_for
from unveil.models.metrics.intervals import binomial_interval
from unveil.models.schemes.base import Scheme
from unveil.models.training.classifier import ClassifierSettings, count_classes, predict, train_classifier

MAX_HIGH_DROP_POINTS = 3.0  # that a classifier may lose for its classification to count as High

TRAINING_IMAGES: Mapping[Profile, int | None] = {"smoke": 64, "quick": 5000, "paper": None}

_RECOGNISER_PROGRESS = 0.99  # of the cell's progress bar, since the recogniser is trained last
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
) -> CellOutcome[UtilityResult]:
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
        training = Availability(available=False, reason=scheme.bound_to_classifier)
        s = classifier.settings
        classifier_description = (
            f"{s.network} of width {s.width}, images averaged down by {s.shrink}, {s.epochs} epochs on plain images"
        )
        notes = [f"judged by the classifier that its key was trained with, as it is: {classifier_description}"]
        return _build_result(plain_correct, protected_correct, training, cost, s, data, context, notes, started_at)
    protected = TrainTestImages(protect(plain.train, len(plain.test)), protected_test)
    return _train_and_compare(scheme, plain, protected, cost, data, options, context, started_at)


def run_external_utility(
    data: ImageDataset, options: ScoringOptions, context: RunContext
) -> CellOutcome[UtilityResult]:
    """The utility of uploaded ciphertexts with originals. Raises AttackFailed, Cancelled."""
    started_at = time.monotonic()
    if data.train_originals is None or data.test_originals is None:
        raise AttackFailed("the plain images are needed to compare with: upload the `originals`")
    check_labels(data)
    data = limit_to_profile(data, options.profile)
    assert data.train_originals is not None
    assert data.test_originals is not None
    plain = TrainTestImages(data.train_originals, data.test_originals)
    protected = TrainTestImages(data.train, data.test)
    cost = ProtectionCost(level=None, images_per_second=None, parameters=None)
    return _train_and_compare(None, plain, protected, cost, data, options, context, started_at)


def limit_to_profile(data: ImageDataset, profile: Profile) -> ImageDataset:
    """The images that a profile takes: the test images of every cell, and more training images than an attack has."""
    return data.take(TRAINING_IMAGES[profile], PROFILE_IMAGE_COUNTS[profile][1])


def check_labels(data: ImageDataset) -> None:
    """Raises AttackFailed if a classifier cannot be trained and tested on the dataset."""
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
) -> tuple[RecognitionRate | None, list[str]]:
    """The accuracy of a classifier of plain images on reconstructions, or a note why that is unknown.

    plain: the classifier's training images. targets: the originals of the attacked images. The mean over the keys.
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

    rate = RecognitionRate(
        top1=float(np.mean([top1(trial.reconstructed) for trial in trials])),
        protected=float(np.mean([top1(trial.protected) for trial in trials])),
        plain=top1(targets),
        chance=_chance(data),
    )
    return rate, []


def _train_and_compare(
    scheme: Scheme[Any, Any] | None,
    plain: TrainTestImages,
    protected: TrainTestImages,
    cost: ProtectionCost,
    data: ImageDataset,
    options: ScoringOptions,
    context: RunContext,
    started_at: float,
) -> CellOutcome[UtilityResult]:
    """The utility by two classifiers: one trained on plain, one on protected images."""
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
    training = _availability(plain_correct, protected_correct, data, "trained on protected images")
    return _build_result(plain_correct, protected_correct, training, cost, settings, data, context, notes, started_at)


def _availability(
    plain_correct: CorrectMask, protected_correct: CorrectMask, data: ImageDataset, subject: str
) -> Availability:
    """Whether a classifier beats chance on protected images; undecided if it does not on plain images either."""
    accuracy, chance = 100 * protected_correct.mean(), 100 * _chance(data)
    reason = f"a classifier {subject} has an accuracy of {accuracy:.1f} % (chance {chance:.1f} %)"
    if _is_above_chance(protected_correct, data):
        return Availability(available=True, reason=reason)
    if _is_above_chance(plain_correct, data):
        return Availability(available=False, reason=reason)
    return Availability(available=None, reason=f"{reason}; on plain images it does no better than chance either")


def _is_above_chance(correct: CorrectMask, data: ImageDataset) -> bool:
    """Above the share of the most frequent class, at 99 % confidence."""
    lower_bound, _ = binomial_interval(int(correct.sum()), len(correct), 0.98)
    return lower_bound > _chance(data)


def _chance(data: ImageDataset) -> float:
    return float(np.bincount(data.test_labels).max() / len(data.test_labels))


def _measure_cost(scheme: Scheme[Any, Any], secret: bytes, images: Images, protect: ProtectImages) -> ProtectionCost:
    images = images[:_TIMED_IMAGES]
    protect(images[:1], 0)  # warm-up
    times = []
    for _ in range(3):
        started_at = time.perf_counter()
        protect(images, 0)
        times.append(time.perf_counter() - started_at)
    weights = None
    if scheme.trains:
        weights = sum(p.numel() for p in scheme.key(secret, *images.shape[1:3]).parameters())
    return ProtectionCost(
        level="High" if scheme.trains else "Low",
        images_per_second=len(images) / min(times),
        parameters=weights,
    )


def _build_result(
    plain_correct: CorrectMask,
    protected_correct: CorrectMask,
    training: Availability,
    cost: ProtectionCost,
    settings: ClassifierSettings,
    data: ImageDataset,
    context: RunContext,
    notes: list[str],
    started_at: float,
) -> CellOutcome[UtilityResult]:
    drop = _accuracy_drop(plain_correct, protected_correct)
    testing = _availability(plain_correct, protected_correct, data, "tested on protected images")
    plain_above_chance = _is_above_chance(plain_correct, data)
    if not plain_above_chance:
        notes = [*notes, "the plain classifier does no better than chance: the cost of protection is unknown"]
    elif drop.ci_low <= MAX_HIGH_DROP_POINTS < drop.ci_high:
        notes = [*notes, f"the interval of the drop spans {MAX_HIGH_DROP_POINTS:g} points: High or Low is not certain"]
    classification: Level = "High" if drop.points <= MAX_HIGH_DROP_POINTS else "Low"
    result = UtilityResult(
        plain=_rate_with_interval(plain_correct),
        protected=_rate_with_interval(protected_correct),
        drop=drop,
        chance=_chance(data),
        classification=classification if plain_above_chance else None,
        training=training,
        testing=testing,
        cost=cost,
        classifier=vars(settings),
        seconds=round(time.monotonic() - started_at, 3),
        device=context.device,
        notes=[*data.notes, *notes],
    )
    return CellOutcome(result)


def _rate_with_interval(correct: CorrectMask) -> AccuracyRate:
    low, high = binomial_interval(int(correct.sum()), len(correct), 0.95)
    return AccuracyRate(top1=float(correct.mean()), ci_low=low, ci_high=high, n=len(correct))


def _accuracy_drop(before: CorrectMask, after: CorrectMask) -> AccuracyDrop:
    """Points of accuracy lost, on the same images: Bonett and Price's interval for paired shares (2012)."""
    n = len(before)
    lost, won = (int((a & ~b).sum()) for a, b in ((before, after), (after, before)))
    p, q = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    spread = _Z95 * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return AccuracyDrop(
        points=100 * (lost - won) / n,
        ci_low=100 * max(-1.0, p - q - spread),
        ci_high=100 * min(1.0, p - q + spread),
    )
