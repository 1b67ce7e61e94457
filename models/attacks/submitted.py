"""Submitted reconstructions: the output of an attack that was run elsewhere, scored by the same rules."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.attacks.none import NoAttack
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.core.threat_models import NAMED_THREAT_MODELS, ThreatModel
from unveil.models.schemes.base import NoSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Claim = Literal["ciphertext-only", "+public images", "known-plaintext", "chosen-plaintext"]
_MODELS: Mapping[str, ThreatModel] = {model.name: model for model in NAMED_THREAT_MODELS}


@dataclass(frozen=True)
class SubmittedSettings:
    dataset: str = setting("", "The upload of kind `reconstructed` that holds the images")
    claims: Claim = setting("ciphertext-only", "The threat model of the attack, as its author states it")


class Submitted(Attack[SubmittedSettings]):
    """Scores reconstructions that another program made. Nothing verifies how they were made.

    An upload names its files as the evaluated test images are named. The attack itself cannot run on inverted images or
    noise, so the controls are those of the scoring: the controls of the attack `none`.
    """

    name = "submitted"
    title = "Submitted reconstructions"
    source = "the author of the upload"
    threat_model = ThreatModel.CIPHERTEXT_ONLY
    Settings = SubmittedSettings
    reads_upload = True

    def __init__(self, settings: SubmittedSettings, images: Images | None = None, notes: Sequence[str] = ()) -> None:
        """images: uint8 [N, H, W, 3], a reconstruction of each target, without padding. notes: on their reading."""
        super().__init__(settings)
        self.threat_model = _MODELS[settings.claims]
        self.images = images
        self.notes = notes

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:  # noqa: ARG002
        images, targets = self.images, attack_input.targets
        if images is None or len(images) < len(targets):
            given = 0 if images is None else len(images)
            raise AttackFailed(f"{len(targets)} images are attacked, but {given} reconstructions were submitted")
        images = images[: len(targets)]
        rows, columns = (size - own for size, own in zip(targets.shape[1:3], images.shape[1:3], strict=True))
        if rows < 0 or columns < 0:
            raise AttackFailed(
                f"submitted reconstructions are {images.shape[2]}x{images.shape[1]}, the attacked images "
                f"{targets.shape[2]}x{targets.shape[1]}"
            )
        digest = hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()
        return AttackResult(
            reconstructed=np.pad(images, ((0, 0), (0, rows), (0, columns), (0, 0)), mode="edge"),
            notes=(
                f"submitted reconstructions: Unveil cannot verify the claim that the attack was {self.settings.claims}",
                f"SHA-256 of the submitted images: {digest}",
                *(f"submitted images: {note}" for note in self.notes),
            ),
        )

    def for_controls(self) -> Attack[Any]:
        return NoAttack(NoSettings())
