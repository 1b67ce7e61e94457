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
from unveil.models.core.run_context import Context
from unveil.models.evaluation.attacker_view import Lab, Protect, allowed
from unveil.models.evaluation.scoring import identified
from unveil.models.metrics.image_metrics import SCALES, identification, ssim
from unveil.models.schemes.base import Scheme

POSITIVE_SSIM = 0.8  # what a learned attack must reach on the negative of the image
_CONFIDENCE = 0.999  # a control must not raise a false alarm once in a hundred cells


Controls = dict[str, str]  # {"positive": "passed" | "failed", "negative": ...}


def run_controls(
    scheme: Scheme[Any, Any] | None, attack: Attack[Any], lab: Lab, context: Context
) -> tuple[Controls, list[str]]:
    """Controls of an attack with these settings (SCIENCE section 5), and a note where another cell had made them.

    Positive: a learned attack must reach POSITIVE_SSIM, any other must identify above chance. Negative: on pure noise
    the attack must stay at chance, or find that there is nothing to be found. Training them takes longer than the
    attack: a learned attack makes them once for all cells of an evaluation that would train the same.
    """
    if not attack.trains():
        return _run(scheme, attack, lab, context), _too_few(len(lab.targets))
    made: list[Controls] = []

    def make() -> bytes:
        made.append(_run(scheme, attack, lab, context))
        return json.dumps(made[0]).encode()

    found: Controls = json.loads(context.shared(f"controls/{_what_decides(scheme, attack, lab, context)}", make))
    return found, [] if made else ["controls: those of another cell with the same settings, network and images"]


def _too_few(images: int) -> list[str]:
    """A note where not even a hit for every image would be above chance: then no positive control can pass."""
    hits = np.ones((len(SCALES), images), np.int64)
    enough = identified([hits], _CONFIDENCE)["above_chance"]
    return [] if enough else [f"{images} test images are too few for a control to tell: nothing is certain from so few"]


def _what_decides(scheme: Scheme[Any, Any] | None, attack: Attack[Any], lab: Lab, context: Context) -> str:
    images = [
        (array.shape, zlib.crc32(np.ascontiguousarray(array).data)) for array in (lab.targets, lab.pool, lab.public)
    ]
    told = f"{attack.name} {attack.settings} {attack.approach(scheme)} {images} {context.seed}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _run(scheme: Scheme[Any, Any] | None, attack: Attack[Any], lab: Lab, context: Context) -> Controls:
    rng = np.random.default_rng(context.seed)

    def negative(images: Images, first: int) -> Images:  # noqa: ARG001
        return 255 - images

    def noise(images: Images, first: int) -> Images:  # noqa: ARG001
        # A bytearray, for torch warns of arrays that cannot be written to.
        return np.frombuffer(bytearray(rng.bytes(images.size)), np.uint8).reshape(images.shape)

    context.report(0.0, "positive control")
    try:
        seen = _sees(scheme, attack, lab, _half(context, "control-positive", 0), negative, learned=attack.learned)
    except AttackFailed:
        seen = False
    context.report(0.5, "negative control")
    try:
        deceived = _sees(scheme, attack, lab, _half(context, "control-negative", 1), noise, learned=False)
    except TrainingFailed:  # what it would have seen is not known
        deceived = True
    except AttackFailed:  # there is nothing to be found
        deceived = False
    return {"positive": "passed" if seen else "failed", "negative": "failed" if deceived else "passed"}


def begin_of_controls(attack: Attack[Any], runs: int) -> float:
    """Where on the progress bar they begin after so many runs of the attack; they train a learned one twice more."""
    return runs / (runs + (2 if attack.learned else 1))


def during_controls(context: Context, begin: float) -> Context:
    """The rest of the progress bar, from `begin` on. Controls show no curves of their own."""
    return replace(
        context,
        report=lambda fraction, _: context.report(begin + (1 - begin) * fraction, "controls"),
        metric=lambda *_: None,
    )


def _half(context: Context, name: str, number: int) -> Context:
    """Of the controls. Checkpoints of one must not be taken for those of the attack."""
    return replace(
        context,
        checkpoints=context.checkpoints and context.checkpoints.part(name),
        report=lambda fraction, phase: context.report((number + fraction) / 2, phase),
    )


def _sees(
    scheme: Scheme[Any, Any] | None,
    attack: Attack[Any],
    lab: Lab,
    context: Context,
    protect: Protect,
    *,
    learned: bool,
) -> bool:
    """Whether the attack brings out an image from behind `protect`. Raises AttackFailed."""
    seen = attack.run(allowed(scheme, attack, lab, protect), context).reconstructed
    if seen is None:
        return False
    if learned:
        return bool(ssim(lab.targets, seen).mean() >= POSITIVE_SSIM)
    return bool(identified([identification(lab.targets, seen).ranks], _CONFIDENCE)["above_chance"])
