"""Key recovery: the key of a dataset from a few of its ciphertexts [M].

The attack needs ciphertexts only and no training: natural images are smooth, and one key serves all of them. The
bundled public statistics describe natural images; they contain nothing of the scored images. The algorithms are in
`unveil.models.recovery`, figures in docs/results.md#key-recovery-by-number-of-ciphertexts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.attacks.ciphertext_curve import CiphertextSettings, recover_with_curve
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import OnStep, RunContext
from unveil.models.core.structure import (
    BlockMap,
    BlockScramble,
    BlockSubstitution,
    PixelMap,
    Structure,
    is_fixed_nibble_map,
    is_fixed_value_map,
    is_moved_value_map,
    is_value_map,
)
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme
from unveil.models.schemes.block_inverse import MIRROR, BlockInverse
from unveil.models.schemes.pixelwise import PixelwiseKey
from unveil.models.schemes.tanaka import BLOCK, NibblePermutation
from unveil.models.schemes.value_inverse import ValueInverse
from unveil.models.schemes.value_substitution import ValueSubstitution

if TYPE_CHECKING:
    from unveil.models.core.verdict_rules.evidence import Ambiguity
    from unveil.models.recovery.color_ambiguity import ColorTransform

UNKNOWN_STRUCTURE = (
    "needs a scheme that inverts and permutes the channels of each pixel, the nibbles of each 4x4 block by one map, "
    "the values of each block by one map, or whole blocks, or that replaces values of each block by one table"
)

_MIN_PROBABILITY = 0.95  # of the chosen rotation and colours together; below, the rotation stays open

RecoveredMap = PixelwiseKey | NibblePermutation | BlockInverse | ValueInverse | ValueSubstitution
Violations = Callable[[RecoveredMap], int]


class KeyRecovery(Attack[CiphertextSettings]):
    """Computes the key from ciphertexts alone; public image statistics resolve the remaining ambiguity."""

    name = "key-recovery"
    title = "Key recovery"
    source = "Unveil"
    threat_model = ThreatModel.CIPHERTEXT_ONLY
    Settings = CiphertextSettings

    def required_ciphertexts(self) -> int:
        return self.settings.ciphertexts

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        structure = scheme.structure
        is_block_map = is_fixed_nibble_map(structure, BLOCK) or is_value_map(structure)
        if not is_block_map and not isinstance(structure, PixelMap | BlockScramble | BlockSubstitution):
            return UNKNOWN_STRUCTURE
        if scheme.key_per_image:
            return "every image has a key of its own: a ciphertext reveals nothing about the key of another image"
        return None

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        scheme = attack_input.scheme
        if scheme is None:
            raise AttackFailed(UNKNOWN_STRUCTURE)

        def recover(
            ciphertexts: Images, to_read: Images, on_step: OnStep
        ) -> tuple[RecoveredMap, ColorTransform | None]:
            return recover_map(scheme.structure, ciphertexts, to_read, context.seed, scheme.rule_violations, on_step)

        found = recover_with_curve(attack_input, self.settings, context, recover)
        color, choices = found.color, _open_choices(scheme.structure)
        metrics, notes = {"ciphertexts": float(found.count)}, list(found.notes)
        if color is not None and choices:
            metrics["ciphertexts_for_colours"] = float(color.image_count)
            metrics["colour_probability"] = color.probability
            chosen = " and ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
            notes.append(
                f"{chosen} chosen with probability {color.probability:.3f} on {color.image_count} of the ciphertexts"
            )
        ambiguity = _ambiguity(scheme, found.inverse, choices, color)
        if ambiguity == "rotation":
            notes.append("this is too uncertain: scores are those of the best rotation or mirror image")
        return AttackResult(
            reconstructed=found.reconstructed,
            inverse=found.inverse,
            key=scheme.key_from_map(found.inverse),
            metrics=metrics,
            ablation=found.ablation,
            ambiguity=ambiguity,
            notes=tuple(notes),
        )


def _open_choices(structure: Structure | None) -> list[str]:
    """What the algorithms leave open for all images, so that public statistics or a rule of the scheme choose it."""
    if isinstance(structure, BlockMap):
        is_open = {
            "inversion": structure.inverts,
            "channel order": structure.units_move,
            "rotation": structure.units_move and structure.blocks_move,
        }
        return [name for name, choice in is_open.items() if choice]
    return ["inversion", "channel order", *(["rotation"] if isinstance(structure, BlockScramble) else [])]


def _ambiguity(
    scheme: Scheme[Any, Any], found: RecoveredMap, choices: Sequence[str], color: ColorTransform | None
) -> Ambiguity | None:
    """What public statistics leave open: an attacker sees which way up images are, so a wrong guess hides no leak."""
    if "rotation" not in choices:
        return None
    if color is not None and color.probability < _MIN_PROBABILITY:
        return "rotation"
    return "mirror" if _is_mirror_open(scheme, found) else None


def _is_mirror_open(scheme: Scheme[Any, Any], found: RecoveredMap) -> bool:
    """Whether no rule of the scheme tells the map from its mirror image: natural images do not."""
    assert isinstance(found, BlockInverse | ValueInverse)
    mirrored = found.transform(MIRROR, 0, negative=False)
    return scheme.rule_violations(mirrored) == scheme.rule_violations(found)


def recover_map(
    structure: Structure | None,
    ciphertexts: Images,
    to_read: Images,
    seed: int,
    violations: Violations = lambda _: 0,
    on_step: OnStep = lambda: None,
) -> tuple[RecoveredMap, ColorTransform | None]:
    """The map of all ciphertexts, and the colour transform that `to_read` determines, its first images at most.

    No colour transform is left to choose for a table of values.

    violations: see `Scheme.rule_violations`. on_step is called every few seconds at most. Raises AttackFailed.
    """
    from unveil.models.recovery import (
        block_scramble,
        block_substitution,
        color_ambiguity,
        fixed_blocks,
        orientation,
        permuted_values,
        pixelwise,
        tanaka,
        value_map,
    )

    sample = to_read[: color_ambiguity.MAX_IMAGES]
    try:
        if isinstance(structure, PixelMap):
            key = pixelwise.recover_relative_key(ciphertexts, on_step)
            color = color_ambiguity.choose_color_transform(key.decrypt(sample))
            return pixelwise.transform_key(key, color.order, negative=color.negative), color
        if isinstance(structure, BlockSubstitution):
            return block_substitution.recover_substitution(ciphertexts, structure.side, on_step), None
        if is_fixed_value_map(structure):
            values = fixed_blocks.invert_fixed_blocks(ciphertexts, structure, seed, on_step)
            value_evidence = value_map.transform_evidence(structure, values, violations)
            color = color_ambiguity.choose_color_transform(values.decrypt(sample), value_evidence[0])
            return values.transform(0, color.order, negative=color.negative), color
        if is_fixed_nibble_map(structure, BLOCK):
            permutation = tanaka.recover_permutation(ciphertexts, seed, on_step=on_step)
            evidence = tanaka.rule_evidence(violations, permutation)
            color = color_ambiguity.choose_color_transform(permutation.decrypt(sample), evidence)
            return permutation.transform(color.order, negative=color.negative), color
        if isinstance(structure, BlockScramble):
            scrambled = block_scramble.invert_blocks(ciphertexts, structure.side, on_step)
            found = orientation.choose_orientation(scrambled.decrypt(sample))
            return scrambled.transform(
                found.quarter_turns, found.color.order, negative=found.color.negative
            ), found.color
        if is_moved_value_map(structure):
            inverse = permuted_values.invert_moved_blocks(ciphertexts, structure, seed, on_step)
            turned, mirrored = np.split(value_map.transform_evidence(structure, inverse, violations), 2)
            if mirrored.max() > turned.max():
                inverse, turned = inverse.transform(MIRROR, 0, negative=False), mirrored
            found = orientation.choose_orientation(inverse.decrypt(sample), turned)
            return inverse.transform(found.quarter_turns, found.color.order, negative=found.color.negative), found.color
    except ValueError as error:
        raise AttackFailed(str(error)) from error
    raise AttackFailed(UNKNOWN_STRUCTURE)
