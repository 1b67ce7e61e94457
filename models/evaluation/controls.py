"""Controls: an attack must reconstruct the inverted image, and find nothing in random noise."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import replace
from typing import Any

import numpy as np

from unveil.models.attacks.base import Attack
from unveil.models.core.cell_result import Controls
from unveil.models.core.errors import AttackFailed, TrainingFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.evaluation.attacker_view import ImageSplit, ProtectImages, build_attack_input
from unveil.models.evaluation.scoring import identification_summary
from unveil.models.metrics.identification import SCALES, identification
from unveil.models.metrics.ssim import ssim
from unveil.models.schemes.base import Scheme

POSITIVE_SSIM = 0.8  # that a learned attack must reach on the inverted image
_CONTROL_CONFIDENCE = 0.999  # so that fewer than one cell in a hundred has a false alarm


def run_controls(
    scheme: Scheme[Any, Any] | None, attack: Attack[Any], image_split: ImageSplit, context: RunContext
) -> tuple[Controls, list[str]]:
    """Controls of an attack with these settings (SCIENCE section 5), and notes on them.

    Positive: a learned attack must reach POSITIVE_SSIM, any other must identify originals above chance. Negative: on
    random noise the attack must stay at chance, or fail. Training both controls takes longer than the attack, so the
    cells of an evaluation share those that train the same network on the same images.
    """
    if not attack.trains_network():
        return _run_both(scheme, attack, image_split, context), _too_few_images_note(len(image_split.targets))
    computed: list[Controls] = []

    def compute() -> bytes:
        computed.append(_run_both(scheme, attack, image_split, context))
        return json.dumps(computed[0].to_json()).encode()

    cache_key = f"controls/{_control_cache_key(scheme, attack, image_split, context)}"
    controls = Controls.from_json(json.loads(context.memoize(cache_key, compute)))
    return controls, [] if computed else ["controls: those of another cell with the same settings, network and images"]


def _too_few_images_note(images: int) -> list[str]:
    """A note if no positive control can pass, because identifying every image would not be above chance."""
    all_identified = np.ones((len(SCALES), images), np.int64)
    can_pass = identification_summary([all_identified], _CONTROL_CONFIDENCE).above_chance
    return [] if can_pass else [f"{images} test images are too few for the controls: none of them can pass"]


def _control_cache_key(
    scheme: Scheme[Any, Any] | None, attack: Attack[Any], image_split: ImageSplit, context: RunContext
) -> str:
    images = [
        (array.shape, zlib.crc32(np.ascontiguousarray(array).data))
        for array in (image_split.targets, image_split.owner_images, image_split.public)
    ]
    description = f"{attack.name} {attack.settings} {attack.control_cache_key(scheme)} {images} {context.seed}"
    return hashlib.sha256(description.encode()).hexdigest()[:32]


def _run_both(
    scheme: Scheme[Any, Any] | None, attack: Attack[Any], image_split: ImageSplit, context: RunContext
) -> Controls:
    rng = np.random.default_rng(context.seed)

    def invert(images: Images, first: int) -> Images:  # noqa: ARG001
        return 255 - images

    def noise(images: Images, first: int) -> Images:  # noqa: ARG001
        # A bytearray: torch warns about read-only arrays.
        return np.frombuffer(bytearray(rng.bytes(images.size)), np.uint8).reshape(images.shape)

    context.report(0.0, "positive control")
    try:
        reconstructs_inverted = _reconstructs(
            scheme,
            attack,
            image_split,
            _half_context(context, "control-positive", 0),
            invert,
            learning_based=attack.learning_based,
        )
    except AttackFailed:
        reconstructs_inverted = False
    context.report(0.5, "negative control")
    try:
        reconstructs_noise = _reconstructs(
            scheme, attack, image_split, _half_context(context, "control-negative", 1), noise, learning_based=False
        )
    except TrainingFailed:  # what the attack would have found is unknown
        reconstructs_noise = True
    except AttackFailed:
        reconstructs_noise = False
    return Controls(
        positive="passed" if reconstructs_inverted else "failed",
        negative="failed" if reconstructs_noise else "passed",
    )


def controls_start_fraction(attack: Attack[Any], runs: int) -> float:
    """Where on the progress bar the controls start after `runs` of the attack. They train a learned attack twice."""
    return runs / (runs + (2 if attack.learning_based else 1))


def controls_context(context: RunContext, start: float) -> RunContext:
    """Reports to the progress bar from `start` on, and records no curves."""
    return replace(
        context,
        report=lambda fraction, _: context.report(start + (1 - start) * fraction, "controls"),
        metric=lambda *_: None,
    )


def _half_context(context: RunContext, name: str, index: int) -> RunContext:
    """For one of the two controls. A folder of its own keeps its checkpoints apart from those of the attack."""
    return replace(
        context,
        checkpoints=context.checkpoints and context.checkpoints.child(name),
        report=lambda fraction, phase: context.report((index + fraction) / 2, phase),
    )


def _reconstructs(
    scheme: Scheme[Any, Any] | None,
    attack: Attack[Any],
    image_split: ImageSplit,
    context: RunContext,
    protect: ProtectImages,
    *,
    learning_based: bool,
) -> bool:
    """Whether the attack reconstructs images that `protect` has protected. Raises AttackFailed."""
    reconstructed = attack.run(build_attack_input(scheme, attack, image_split, protect), context).reconstructed
    if reconstructed is None:
        return False
    if learning_based:
        return bool(ssim(image_split.targets, reconstructed).mean() >= POSITIVE_SSIM)
    ranks = identification(image_split.targets, reconstructed).ranks
    return identification_summary([ranks], _CONTROL_CONFIDENCE).above_chance
