"""Whether the instrument works: an attack must see through the negative of the image, and see nothing in noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from models.attacks.base import Attack, AttackFailed, Context
from models.images import Images
from models.lab import Lab, Protect, allowed
from models.metrics import identification, ssim
from models.schemes.base import Scheme
from models.scoring import identified

POSITIVE_SSIM = 0.8  # what a learned attack must reach on the negative of the image
_CONFIDENCE = 0.999  # a control must not raise a false alarm once in a hundred cells


def run_controls(scheme: Scheme[Any, Any] | None, attack: Attack[Any], lab: Lab, context: Context) -> dict[str, str]:
    """{"positive": "passed" | "failed", "negative": ...} of an attack with these settings (SCIENCE section 5).

    Positive: a learned attack must reach POSITIVE_SSIM, any other must identify above chance. Negative: on pure noise
    the attack must stay at chance, or find that there is nothing to be found.
    """
    rng = np.random.default_rng(context.seed)

    def negative(images: Images, first: int) -> Images:  # noqa: ARG001
        return 255 - images

    def noise(images: Images, first: int) -> Images:  # noqa: ARG001
        return np.frombuffer(rng.bytes(images.size), np.uint8).reshape(images.shape)

    context.report(0.0, "positive control")
    seen = _sees(scheme, attack, lab, _beside(context, "control-positive"), negative, learned=attack.learned)
    context.report(0.5, "negative control")
    deceived = _sees(scheme, attack, lab, _beside(context, "control-negative"), noise, learned=False)
    return {"positive": "passed" if seen else "failed", "negative": "failed" if deceived else "passed"}


def during_controls(context: Context, fraction: float) -> Context:
    """Controls show no progress or curves of their own, but still let a cancel through."""
    return replace(context, report=lambda *_: context.report(fraction, "controls"), metric=lambda *_: None)


def _beside(context: Context, name: str) -> Context:
    """Checkpoints of a control must not be taken for those of the attack."""
    if context.workdir is None:
        return context
    folder = context.workdir / name
    folder.mkdir(parents=True, exist_ok=True)
    return replace(context, workdir=folder)


def _sees(
    scheme: Scheme[Any, Any] | None,
    attack: Attack[Any],
    lab: Lab,
    context: Context,
    protect: Protect,
    *,
    learned: bool,
) -> bool:
    """Whether the attack brings out an image from behind `protect`."""
    try:
        seen = attack.run(allowed(scheme, attack, lab, protect), context).reconstructed
    except AttackFailed:
        return False
    if seen is None:
        return False
    if learned:
        return bool(ssim(lab.targets, seen).mean() >= POSITIVE_SSIM)
    return bool(identified([identification(lab.targets, seen).ranks], _CONFIDENCE)["above_chance"])
