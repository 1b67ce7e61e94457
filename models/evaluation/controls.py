"""Whether the instrument works: an attack must see through the negative of the image, and see nothing in noise."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import replace
from typing import Any

import numpy as np

from unveil.models.attacks.base import Attack
from unveil.models.core.errors import AttackFailed, TrainingFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.evaluation.attacker_view import ImageSplit, ProtectImages, build_attack_input
from unveil.models.evaluation.scoring import identification_summary
from unveil.models.metrics.identification import SCALES, identification
from unveil.models.metrics.ssim import ssim
from unveil.models.schemes.base import Scheme

POSITIVE_SSIM = 0.8  # what a learned attack must reach on the negative of the image
_CONTROL_CONFIDENCE = 0.999  # a control must not raise a false alarm once in a hundred cells


ControlResults = dict[str, str]  # {"positive": "passed" | "failed", "negative": ...}


def run_controls(
    scheme: Scheme[Any, Any] | None, attack: Attack[Any], image_split: ImageSplit, context: RunContext
) -> tuple[ControlResults, list[str]]:
    """Controls of an attack with these settings (SCIENCE section 5), and a note where another cell had made them.

    Positive: a learned attack must reach POSITIVE_SSIM, any other must identify above chance. Negative: on pure noise
    the attack must stay at chance, or find that there is nothing to be found. Training them takes longer than the
    attack: a learned attack makes them once for all cells of an evaluation that would train the same.
    """
    if not attack.trains_network():
        return _run_both(scheme, attack, image_split, context), _too_few_images_note(len(image_split.targets))
    computed: list[ControlResults] = []

    def compute() -> bytes:
        computed.append(_run_both(scheme, attack, image_split, context))
        return json.dumps(computed[0]).encode()

    results: ControlResults = json.loads(
        context.memoize(f"controls/{_control_cache_key(scheme, attack, image_split, context)}", compute)
    )
    return results, [] if computed else ["controls: those of another cell with the same settings, network and images"]


def _too_few_images_note(images: int) -> list[str]:
    """A note where not even a hit for every image would be above chance: then no positive control can pass."""
    hits = np.ones((len(SCALES), images), np.int64)
    can_pass = identification_summary([hits], _CONTROL_CONFIDENCE)["above_chance"]
    return (
        [] if can_pass else [f"{images} test images are too few for a control to tell: nothing is certain from so few"]
    )


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
) -> ControlResults:
    rng = np.random.default_rng(context.seed)

    def negative(images: Images, first: int) -> Images:  # noqa: ARG001
        return 255 - images

    def noise(images: Images, first: int) -> Images:  # noqa: ARG001
        # A bytearray, for torch warns of arrays that cannot be written to.
        return np.frombuffer(bytearray(rng.bytes(images.size)), np.uint8).reshape(images.shape)

    context.report(0.0, "positive control")
    try:
        sees_negative_image = _reconstructs(
            scheme,
            attack,
            image_split,
            _half_context(context, "control-positive", 0),
            negative,
            learning_based=attack.learning_based,
        )
    except AttackFailed:
        sees_negative_image = False
    context.report(0.5, "negative control")
    try:
        sees_in_noise = _reconstructs(
            scheme, attack, image_split, _half_context(context, "control-negative", 1), noise, learning_based=False
        )
    except TrainingFailed:  # what it would have seen is not known
        sees_in_noise = True
    except AttackFailed:  # there is nothing to be found
        sees_in_noise = False
    return {
        "positive": "passed" if sees_negative_image else "failed",
        "negative": "failed" if sees_in_noise else "passed",
    }


def controls_start_fraction(attack: Attack[Any], runs: int) -> float:
    """Where on the progress bar they begin after so many runs of the attack; they train a learned one twice more."""
    return runs / (runs + (2 if attack.learning_based else 1))


def controls_context(context: RunContext, start: float) -> RunContext:
    """The rest of the progress bar, from `begin` on. Controls show no curves of their own."""
    return replace(
        context,
        report=lambda fraction, _: context.report(start + (1 - start) * fraction, "controls"),
        metric=lambda *_: None,
    )


def _half_context(context: RunContext, name: str, index: int) -> RunContext:
    """Of the controls. Checkpoints of one must not be taken for those of the attack."""
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
    """Whether the attack brings out an image from behind `protect`. Raises AttackFailed."""
    reconstructed = attack.run(build_attack_input(scheme, attack, image_split, protect), context).reconstructed
    if reconstructed is None:
        return False
    if learning_based:
        return bool(ssim(image_split.targets, reconstructed).mean() >= POSITIVE_SSIM)
    return bool(
        identification_summary([identification(image_split.targets, reconstructed).ranks], _CONTROL_CONFIDENCE)[
            "above_chance"
        ]
    )
