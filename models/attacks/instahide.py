"""The attack on InstaHide: which encodings share an image, and what these images are (Carlini et al. 2020).

Measured on a simulated challenge of 100 photographs: docs/results.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images, quantise
from unveil.models.core.run_context import RunContext
from unveil.models.core.structure import Mixture
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class InstaHideAttackSettings:
    pass


class InstaHideAttack(Attack[InstaHideAttackSettings]):
    """Separates the private images of all encodings of all targets, which it puts in a random order first.

    As in the published challenge, it does not use which encodings are of one image. Only at the end, each target gets
    the recovered image that most of its encodings contain. No network is trained: squares of encodings are compared,
    and images come from least squares on absolute values.
    """

    name = "instahide"
    title = "Separation of encodings"
    source = "After Carlini et al. 2020"
    threat_model = ThreatModel.CIPHERTEXT_ONLY
    Settings = InstaHideAttackSettings
    takes = "ciphertext"
    max_targets: ClassVar[int | None] = 100  # private images, as in the published challenge
    core_seconds_per_target: ClassVar[float] = 0.2

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        if not isinstance(scheme.structure, Mixture):
            return "needs ciphertexts that are mixtures of several images"
        if scheme.structure.private < 2:
            return "needs encodings that mix private images with each other: only their products show signs"
        return None

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        from unveil.models.recovery.mixtures import separate

        context.report(0.0, "separating the images")
        targets: Floats = np.asarray(attack_input.targets, np.float32)
        structure = None if attack_input.scheme is None else attack_input.scheme.structure
        assert isinstance(structure, Mixture)
        count, encodings = targets.shape[:2]
        if count <= structure.private or encodings < 2:
            needed = f"at least {structure.private + 1} images with 2 encodings each are needed"
            raise AttackFailed(f"{needed}; got {count} with {encodings}")
        order = np.random.default_rng(context.seed).permutation(count * encodings)
        shuffled = targets.reshape(-1, *targets.shape[2:])[order]
        found = separate(
            shuffled, count, structure.private, context.seed, lambda done: context.report(done, "separating the images")
        )
        votes = np.zeros((count, len(found.images)))
        np.add.at(votes, (order[:, None] // encodings, found.members), found.weights)
        chosen = votes.argmax(axis=1)
        images, negative = _to_images(found.images, structure)
        distinct = len(np.unique(chosen))
        notes = [
            f"{len(found.images)} images were separated from {len(order)} encodings; {distinct} of them were chosen"
        ]
        if negative:
            notes.append("the images came out negative: their colours showed it")
        return AttackResult(
            reconstructed=images[chosen],
            metrics={"encodings": float(len(order)), "images_found": float(distinct)},
            notes=tuple(notes),
        )


def _to_images(normalised: Floats, structure: Mixture) -> tuple[Images, bool]:
    """8-bit images, and whether they were inverted: of the two signs, that whose colours are the more natural."""
    from unveil.models.recovery.color_ambiguity import log_probabilities

    mean, deviation = np.array(structure.mean, np.float32), np.array(structure.deviation, np.float32)
    both = [quantise((mean + deviation * sign * normalised) * 255) for sign in (1, -1)]
    naturalness = [float(np.subtract(*log_probabilities(images)[:, [0, 6]].sum(axis=0))) for images in both]
    negative = naturalness[1] > naturalness[0]
    return both[negative], negative
