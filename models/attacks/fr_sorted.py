"""FR with sorted channels: red takes the largest value of each pixel, which restores the mean chroma [M].

Against pixel-wise encryption with a key for each image it needs no training and is the baseline of `simulated-pairs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.attacks.fr import feature_reconstruction
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.core.structure import PixelMap
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme


@dataclass(frozen=True)
class FrSortedSettings:
    b: int = setting(
        0, "Value of the leading bit: 0 makes all values dark, 1 bright", minimum=0, maximum=1, stronger="neutral"
    )


def sorted_reconstruction(images: Images, leading: int = 0) -> Images:
    """FR with L = 8, then the largest value of each pixel as red and the smallest as blue: natural images are reddish.

    uint8 [N, H, W, 3] -> the same shape, in 0..127 (leading 0) or 128..255 (leading 1).
    """
    return np.sort(feature_reconstruction(images, leading=leading), axis=3)[..., ::-1].copy()


class FrSorted(Attack[FrSortedSettings]):
    """Feature reconstruction with the channels of every pixel in descending order."""

    name = "fr-sorted"
    title = "Feature reconstruction, channels sorted"
    source = "Unveil; after Chang and Case 2020"
    threat_model = ThreatModel.CIPHERTEXT_ONLY
    Settings = FrSortedSettings

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        if not isinstance(scheme.structure, PixelMap):
            return "undoes a colour shuffle within each pixel, which only pixel-wise encryption has"
        return None

    def assumptions(self, scheme: Scheme[Any, Any]) -> str:  # noqa: ARG002
        return "channels permuted and inverted within pixels"

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:  # noqa: ARG002
        return AttackResult(reconstructed=sorted_reconstruction(attack_input.targets, self.settings.b))
