"""Feature reconstruction attack (Chang and Case 2020; paper section 3.2, algorithm 1).

The paper prints "2L-1" for both 2^(L-1) and 2^L - 1. With L = 8 the attack forces the leading bit of every channel
value to b by the negative-positive transformation, which preserves edges [P].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.core.threat_models import ThreatModel


@dataclass(frozen=True)
class FrSettings:
    L: int = setting(8, "Number of bits of a value", minimum=1, maximum=8, stronger="higher")
    b: int = setting(0, "Value of the leading bit", minimum=0, maximum=1, stronger="neutral")
    nibblewise: bool = setting(False, "Apply L = 4 to each of the two 4-bit halves of a value", stronger="neutral")


def feature_reconstruction(images: Images, bits: int = 8, leading: int = 0, *, nibblewise: bool = False) -> Images:
    """p XOR (2^L - 1) where floor(p / 2^(L-1)) != b, else p; uint8 of any shape -> the same shape."""
    if nibblewise:
        upper, lower = images >> np.uint8(4), images & np.uint8(15)
        return feature_reconstruction(upper, 4, leading) << np.uint8(4) | feature_reconstruction(lower, 4, leading)
    return np.where(images >> np.uint8(bits - 1) != leading, images ^ np.uint8(2**bits - 1), images)


class FeatureReconstruction(Attack[FrSettings]):
    """Maps a value and its inversion to the same value by fixing the leading bit, which makes edges visible."""

    name = "fr"
    title = "Feature reconstruction"
    source = "Chang and Case 2020; paper section 3.2"
    threat_model = ThreatModel.CIPHERTEXT_ONLY
    Settings = FrSettings
    paper_name = "FR-Attack"
    paper_position = 1

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:  # noqa: ARG002
        s = self.settings
        return AttackResult(
            reconstructed=feature_reconstruction(attack_input.targets, s.L, s.b, nibblewise=s.nibblewise)
        )
