"""Controls: an attack must reconstruct the inverted image, and find nothing in random noise."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unveil.models.attacks.base import Attack, AttackResult
from unveil.models.core.cell_result import Controls
from unveil.models.core.errors import AttackFailed, TrainingFailed
from unveil.models.core.run_context import RunContext
from unveil.models.core.verdict_rules.rules import above_chance
from unveil.models.evaluation.attacker_view import ImageSplit, build_attack_input, image_noise, inverted, noise
from unveil.models.evaluation.isolation import run_attack
from unveil.models.evaluation.key_evidence import Nulls, collect_evidence, null_distributions
from unveil.models.evaluation.originals import Originals
from unveil.models.metrics.ambiguity import best_orientation
from unveil.models.metrics.matching import MIN_NULL_PAIRS
from unveil.models.metrics.significance import NullDistribution
from unveil.models.metrics.ssim import ssim
from unveil.models.schemes.base import Scheme

POSITIVE_SSIM = 0.8  # that a learned attack must reach on the inverted image
NEGATIVE_SSIM = 0.5  # that no attack may reach on noise: it would print images that it knows
CONTROL_IMAGES = 500  # that a control attacks at most
_MAX_NOISE_FOR_SMALL_GALLERIES = 200  # images
_CONTROL_ERROR = 0.001  # so that fewer than one cell in a hundred has a false alarm


@dataclass(frozen=True)
class ControlRun:
    """nulls: by comparison, the similarities of what the attack makes of noise with originals."""

    controls: Controls
    nulls: Nulls
    notes: list[str]


@dataclass(frozen=True)
class _StoredControls:
    """Fields of `Controls`, and those of each null distribution, as cells share them in JSON."""

    controls: dict[str, Any]
    nulls: dict[str, dict[str, Any]]


def run_controls(
    scheme: Scheme[Any, Any] | None,
    attack: Attack[Any],
    image_split: ImageSplit,
    originals: Originals,
    context: RunContext,
) -> ControlRun:
    """Controls of an attack with these settings (SCIENCE section 5). originals: those of the targets, unpadded.

    Positive: a learned attack must reach POSITIVE_SSIM on held-out images of the owner, any other must identify
    originals above chance. Negative: on random noise the attack must stay at chance and below NEGATIVE_SSIM, or fail.
    Training both controls takes longer than the attack, so the cells of an evaluation share those that train the same
    network on the same images.
    """
    if not attack.trains_network():
        return _run_both(scheme, attack, image_split, originals, context)
    computed: list[ControlRun] = []

    def compute() -> bytes:
        computed.append(_run_both(scheme, attack, image_split, originals, context))
        nulls = {name: vars(null) for name, null in computed[0].nulls.items()}
        return json.dumps(vars(_StoredControls(vars(computed[0].controls), nulls))).encode()

    cache_key = f"controls/{control_cache_key(scheme, attack, image_split, originals, context)}"
    stored = _StoredControls(**json.loads(context.memoize(cache_key, compute)))
    nulls = {name: NullDistribution(**null) for name, null in stored.nulls.items()}
    notes = [] if computed else ["controls: those of another cell with the same settings, network and images"]
    return ControlRun(Controls(**stored.controls), nulls, notes)


def control_cache_key(
    scheme: Scheme[Any, Any] | None,
    attack: Attack[Any],
    image_split: ImageSplit,
    originals: Originals,
    context: RunContext,
) -> str:
    """Equal for controls that give the same result: of the same settings, network, images and seed."""
    images = [
        (array.shape, zlib.crc32(np.ascontiguousarray(array).data))
        for array in (image_split.targets, image_split.owner_images, image_split.public, originals.gallery.images)
    ]
    description = f"{attack.name} {attack.settings} {attack.control_cache_key(scheme)} {images} {context.seed}"
    return hashlib.sha256(description.encode()).hexdigest()[:32]


def _run_both(
    scheme: Scheme[Any, Any] | None,
    attack: Attack[Any],
    image_split: ImageSplit,
    originals: Originals,
    context: RunContext,
) -> ControlRun:
    context.report(0.0, "positive control")
    try:
        reconstructs_inverted = _reconstructs_inverted(
            scheme, attack, image_split, originals, context.scoped("control-positive", 0, 0.5)
        )
    except AttackFailed:
        reconstructs_inverted = False
    context.report(0.5, "negative control")
    reconstructs_noise, nulls = _attack_noise(
        scheme, attack, image_split, originals, context.scoped("control-negative", 0.5, 1)
    )
    controls = Controls(
        positive="passed" if reconstructs_inverted else "failed",
        negative="failed" if reconstructs_noise else "passed",
    )
    return ControlRun(controls, nulls, [])


def _reconstructs_inverted(
    scheme: Scheme[Any, Any] | None,
    attack: Attack[Any],
    image_split: ImageSplit,
    originals: Originals,
    context: RunContext,
) -> bool:
    """Raises AttackFailed."""
    if attack.learning_based:
        image_split = _hold_out(image_split)
    else:
        image_split = replace(image_split, targets=image_split.targets[:CONTROL_IMAGES])
    attack_input = build_attack_input(scheme, attack, image_split, inverted(scheme, attack), context=context)
    attack_result = run_attack(attack, attack_input, context)
    reconstructed = attack_result.reconstruct_each(image_split.targets)
    if attack.learning_based:
        images = best_orientation(
            reconstructed,
            image_split.targets,
            attack_result.ambiguity,
            ssim,
            per_image=attack_result.ambiguity_per_image,
        ).images
        return bool(ssim(image_split.targets, images).mean() >= POSITIVE_SSIM)
    tested = originals.repeated(len(reconstructed))
    matches = tested.match(tested.orient(reconstructed, attack_result).images)
    return above_chance(collect_evidence(matches), _CONTROL_ERROR)


def _hold_out(image_split: ImageSplit) -> ImageSplit:
    """The last fifth of the owner's images as targets: the network of the attack trains on the others."""
    count = min(CONTROL_IMAGES, len(image_split.owner_images) // 5)
    if count == 0:
        return replace(image_split, targets=image_split.targets[:CONTROL_IMAGES])
    owner_images, targets = np.split(image_split.owner_images, [len(image_split.owner_images) - count])
    labels = None if image_split.owner_labels is None else image_split.owner_labels[: len(owner_images)]
    return replace(image_split, owner_images=owner_images, owner_labels=labels, targets=targets)


def _attack_noise(
    scheme: Scheme[Any, Any] | None,
    attack: Attack[Any],
    image_split: ImageSplit,
    originals: Originals,
    context: RunContext,
) -> tuple[bool, Nulls]:
    """Whether the attack finds originals in noise, and the similarities of what it makes of noise with originals.

    A small gallery needs more noise images than there are targets, so that there are MIN_NULL_PAIRS similarities.
    """
    rng = np.random.default_rng(context.seed)
    for_nulls = min(_MAX_NOISE_FOR_SMALL_GALLERIES, -(-MIN_NULL_PAIRS // originals.gallery.size))
    limit = min(CONTROL_IMAGES, attack.max_targets or CONTROL_IMAGES)
    count = min(limit, max(len(image_split.targets), for_nulls))
    tested = originals.repeated(count)
    targets = image_noise(rng, (count, *image_split.targets.shape[1:]))
    image_split = replace(image_split, targets=targets)
    try:
        protect = noise(scheme, attack, rng, targets)
        attack_input = build_attack_input(scheme, attack, image_split, protect, context=context)
        attack_result = run_attack(attack, attack_input, context)
        reconstructed = attack_result.reconstruct_each(targets)
    except AttackFailed as failure:
        # What a training that broke off would have found is unknown.
        return isinstance(failure, TrainingFailed), null_distributions(
            tested.match(tested.orient(targets, AttackResult()).images)
        )
    images = tested.orient(reconstructed, attack_result).images
    matches = tested.match(images)
    identified = above_chance(collect_evidence(matches), _CONTROL_ERROR)
    return identified or bool(ssim(tested.images, images).mean() >= NEGATIVE_SSIM), null_distributions(matches)


def controls_start_fraction(attack: Attack[Any], runs: int) -> float:
    """Where on the progress bar the controls start after `runs` of the attack. They train a learned attack twice."""
    return runs / (runs + (2 if attack.learning_based else 1))


def controls_context(context: RunContext, start: float) -> RunContext:
    """Reports to the progress bar from `start` on, and records no curves."""
    return replace(
        context,
        report=lambda fraction, _: context.report(start + (1 - start) * fraction, "controls"),
        metric=lambda *_: None,
        ablation=False,
    )
