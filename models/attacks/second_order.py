"""Second-order statistics: a fixed orthogonal map of all blocks from a few of their ciphertexts [M].

The attack needs ciphertexts only and no training. The bundled moments of natural blocks contain nothing of the scored
images. The algorithm is in `unveil.models.recovery.second_order`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.attacks.ciphertext_curve import CiphertextSettings, recover_with_curve
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import OnStep, RunContext
from unveil.models.core.structure import LinearMap, is_fixed_value_map
from unveil.models.core.threat_models import ThreatModel
from unveil.models.recovery.block_moments import SIDES
from unveil.models.schemes.base import Scheme

if TYPE_CHECKING:
    from unveil.models.recovery.color_ambiguity import ColorTransform
    from unveil.models.recovery.second_order import LinearInverse

MIN_FIT = 0.7  # noise reaches 0.4, a single photograph 0.9 [M]
UNKNOWN_STRUCTURE = (
    "needs a scheme that applies one linear map, or one permutation of values, to all blocks, which stay in place and "
    f"have {SIDES[0]} to {SIDES[-1]} pixels a side"
)


class SecondOrder(Attack[CiphertextSettings]):
    """Finds the orthogonal map of all blocks that gives them the second-order statistics of natural images."""

    name = "second-order"
    title = "Second-order statistics"
    source = "Unveil"
    threat_model = ThreatModel.CIPHERTEXT_ONLY
    Settings = CiphertextSettings

    def required_ciphertexts(self) -> int:
        return self.settings.ciphertexts

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        if _block_side(scheme) is None:
            return UNKNOWN_STRUCTURE
        if scheme.key_per_image:
            return "every image has a key of its own: a ciphertext reveals nothing about the key of another image"
        return None

    def assumptions(self, scheme: Scheme[Any, Any]) -> str:
        return f"blocks of {_block_side(scheme)} pixels, values {scheme.ciphertext.low} to {scheme.ciphertext.high}"

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        from unveil.models.recovery.second_order import invert_linear_blocks

        scheme = attack_input.scheme
        side = None if scheme is None else _block_side(scheme)
        if scheme is None or side is None:
            raise AttackFailed(UNKNOWN_STRUCTURE)
        scale = (scheme.ciphertext.high - scheme.ciphertext.low) / 255

        def recover(ciphertexts: Images, to_read: Images, on_step: OnStep) -> tuple[LinearInverse, ColorTransform]:
            try:
                return invert_linear_blocks(ciphertexts, to_read, side, scale, on_step)
            except ValueError as error:
                raise AttackFailed(str(error)) from error

        found = recover_with_curve(attack_input, self.settings, context, recover)
        inverse, color = found.inverse, found.color
        notes = [f"the statistics of neighbouring blocks fit natural images with a score of {inverse.fit:.3f} of 1"]
        if inverse.fit < MIN_FIT:
            notes.append(f"the score is below {MIN_FIT}: the map was not found, or the images are not natural")
        return AttackResult(
            reconstructed=found.reconstructed,
            inverse=inverse,
            metrics={
                "ciphertexts": float(found.count),
                "fit": inverse.fit,
                "ciphertexts_for_colours": float(color.image_count),
                "colour_probability": color.probability,
            },
            ablation=found.ablation,
            notes=(*notes, *found.notes),
        )


def _block_side(scheme: Scheme[Any, Any]) -> int | None:
    """The side of the blocks that one linear map transforms, or None if it is unknown or unsupported."""
    structure = scheme.structure
    if not isinstance(structure, LinearMap) and not is_fixed_value_map(structure):
        return None
    return structure.side if structure.side in SIDES else None
