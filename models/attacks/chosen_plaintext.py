"""Chosen plaintext: the exact key from the ciphertexts of a few chosen images [M].

Five images of 96x96 determine the key of any scheme that only moves and inverts nibbles, ELE and EtC included.
Pixel-wise encryption and a permutation of blocks and their values need one image, Tanaka's scheme three blocks, a table
of values 256 blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from unveil.models.attacks.base import Attack, AttackInput, AttackResult, Inverse
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.core.structure import (
    BlockSubstitution,
    LinearMap,
    PixelMap,
    is_fixed_nibble_map,
    is_value_map,
    moves_nibbles,
)
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import NoSettings, Scheme
from unveil.models.schemes.tanaka import BLOCK
from unveil.models.structural.declared import solve as solve_structure
from unveil.models.structural.declared import solves

Solve = Callable[[Callable[[Images], Images], int, int], Any]


class ChosenPlaintext(Attack[NoSettings]):
    """Encrypts a few chosen images whose ciphertexts reveal the key."""

    name = "chosen-plaintext"
    title = "Chosen plaintext"
    source = "Unveil"
    threat_model = ThreatModel.CHOSEN_PLAINTEXT

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        if not moves_nibbles(scheme.structure) and not scheme.brings_pair_solver and not solves(scheme.structure):
            return "the scheme does more than move, invert or linearly mix values; see `itn` and `itn-strong`"
        if scheme.key_per_image:
            return "every image has a key of its own: the oracle reveals nothing about the key of another image"
        return None

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        from unveil.models.recovery import chosen_plaintext, known_plaintext

        oracle, scheme = attack_input.oracle, attack_input.scheme
        if oracle is None:
            raise AttackFailed("an encryption oracle is needed; none was given")
        height, width = attack_input.targets.shape[1:3]
        context.report(0.0, "querying the oracle")
        try:
            structure = None if scheme is None else scheme.structure
            if scheme is not None and scheme.brings_pair_solver:
                if isinstance(structure, BlockSubstitution):
                    chosen = chosen_plaintext.make_value_images(structure.side, height, width)
                else:
                    chosen = chosen_plaintext.make_numbering_images(height, width)
                key = scheme.solve_pairs(chosen, chosen_plaintext.query_oracle(oracle, chosen)).key
                return _attack_result(scheme.decrypt(attack_input.targets, key), None, key, len(chosen))
            if isinstance(structure, LinearMap) and structure.side is not None:
                values = 3 * structure.side**2
                blocks = chosen_plaintext.NOISE_BLOCKS_PER_VALUE * values
                chosen = chosen_plaintext.make_noise_images(blocks, structure.side, height, width)
                inverse = solve_structure(structure, chosen, chosen_plaintext.query_oracle(oracle, chosen))
                return _attack_result(inverse.decrypt(attack_input.targets), inverse, None, len(chosen))
            if scheme is not None and is_value_map(structure):
                chosen = chosen_plaintext.make_noise_images(
                    chosen_plaintext.NOISE_BLOCKS_OF_PERMUTATION, structure.side, height, width
                )
                answer = chosen_plaintext.query_oracle(oracle, chosen)
                value_map = known_plaintext.value_map(chosen, answer, structure).key
                own_key = scheme.key_from_map(value_map)
                return _attack_result(value_map.decrypt(attack_input.targets), value_map, own_key, len(chosen))
            if isinstance(structure, PixelMap):
                solve: Solve = chosen_plaintext.pixelwise
            elif is_fixed_nibble_map(structure, BLOCK):
                solve = chosen_plaintext.nibble_permutation
            else:
                solve = chosen_plaintext.nibble_map
            found = solve(oracle, height, width)
        except ValueError as error:
            raise AttackFailed(str(error)) from error
        # No scheme takes the map of all nibbles of an image for a key, so only what it decrypts is compared.
        own_key = None if scheme is None or solve is chosen_plaintext.nibble_map else scheme.key_from_map(found.key)
        return _attack_result(found.key.decrypt(attack_input.targets), found.key, own_key, found.queries)


def _attack_result(reconstructed: Images, inverse: Inverse | None, key: Any, queries: int) -> AttackResult:
    return AttackResult(
        reconstructed=reconstructed,
        inverse=inverse,
        key=key,
        metrics={"queries": float(queries)},
        notes=(f"{queries} chosen image{'s' if queries > 1 else ''} encrypted by the oracle",),
    )
