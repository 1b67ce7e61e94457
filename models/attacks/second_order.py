"""Second-order statistics: a fixed orthogonal map of all blocks from a few of their ciphertexts [M].

The attack needs ciphertexts only and no training. The bundled moments of natural blocks contain nothing of the scored
images. The algorithm is in `unveil.models.recovery.second_order`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.attacks.key_recovery import CURVE, CURVE_TARGETS
from unveil.models.core.errors import AttackFailed
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.core.structure import BlockMap, LinearMap
from unveil.models.core.threat_models import ThreatModel
from unveil.models.recovery.block_moments import SIDES
from unveil.models.schemes.base import Scheme

MIN_FIT = 0.7  # noise reaches 0.4, a single photograph 0.9 [M]
UNKNOWN_STRUCTURE = (
    "needs a scheme that applies one linear map, or one permutation of values, to all blocks, which stay in place and "
    f"have {SIDES[0]} to {SIDES[-1]} pixels a side"
)


@dataclass(frozen=True)
class SecondOrderSettings:
    ciphertexts: int = setting(
        64, "Ciphertexts from which the map is computed", minimum=1, maximum=4096, stronger="higher"
    )
    curve: bool = setting(
        True, "Also recover from 1, 2, 4, ... ciphertexts and report the SSIM of each", stronger="neutral"
    )


class SecondOrder(Attack[SecondOrderSettings]):
    """Finds the orthogonal map of all blocks that gives them the second-order statistics of natural images."""

    name = "second-order"
    title = "Second-order statistics"
    source = "Unveil"
    threat_model = ThreatModel.CIPHERTEXT_ONLY
    Settings = SecondOrderSettings

    def required_ciphertexts(self) -> int:
        return self.settings.ciphertexts

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        if _block_side(scheme) is None:
            return UNKNOWN_STRUCTURE
        if scheme.key_per_image:
            return "every image has a key of its own: a ciphertext reveals nothing about the key of another image"
        return None

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        from unveil.models.recovery.second_order import read_linear_blocks

        scheme = attack_input.scheme
        side = None if scheme is None else _block_side(scheme)
        if scheme is None or side is None:
            raise AttackFailed(UNKNOWN_STRUCTURE)
        scale = (scheme.ciphertext.high - scheme.ciphertext.low) / 255
        ciphertexts = np.concatenate([attack_input.observed, attack_input.targets])[: self.settings.ciphertexts]
        curve = self.settings.curve and context.ablation
        fewer = [2**i for i in range(len(ciphertexts).bit_length()) if 2**i < len(ciphertexts)] if curve else []
        ablation = []
        for i, count in enumerate([*fewer, len(ciphertexts)]):
            report = partial(context.report, i / (len(fewer) + 1), f"{count} ciphertexts")
            report()
            # The targets are ciphertexts as well, and their colours count.
            to_read = np.concatenate([attack_input.targets, attack_input.observed[:count]])
            try:
                reading, color = read_linear_blocks(ciphertexts[:count], to_read, side, scale, report)
            except ValueError as error:
                raise AttackFailed(str(error)) from error
            reconstructed = reading.decrypt(
                attack_input.targets if count == len(ciphertexts) else attack_input.targets[:CURVE_TARGETS]
            )
            if curve:
                ablation.append((CURVE, float(count), reconstructed[:CURVE_TARGETS]))
        notes = [f"the moments of neighbouring blocks fit those of natural images by {reading.fit:.3f} of 1"]
        if reading.fit < MIN_FIT:
            notes.append(f"the fit is below {MIN_FIT}: the map was not found, or the images are not natural")
        return AttackResult(
            reconstructed=reconstructed,
            inverse=reading,
            metrics={
                "ciphertexts": float(len(ciphertexts)),
                "fit": reading.fit,
                "ciphertexts_for_colours": float(color.image_count),
                "colour_probability": color.probability,
            },
            ablation=ablation,
            notes=tuple(notes),
        )


def _block_side(scheme: Scheme[Any, Any]) -> int | None:
    """The side of the blocks that one linear map transforms; None if there is none of a known size."""
    structure = scheme.structure
    if isinstance(structure, BlockMap) and (structure.unit != "value" or not structure.shared or structure.blocks_move):
        return None
    if not isinstance(structure, LinearMap | BlockMap) or structure.side is None:
        return None
    return structure.side if structure.side in SIDES else None
