"""Chosen plaintext: the exact key from the ciphertexts of a few chosen images [M].

Five images of 96x96 determine the key of any scheme that only moves and inverts nibbles, ELE and EtC included.
Pixel-wise encryption needs one image, Tanaka's scheme three blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme
from unveil.models.schemes.ele import Ele
from unveil.models.schemes.etc import Etc
from unveil.models.schemes.pixelwise import Pixelwise
from unveil.models.schemes.tanaka import Tanaka


@dataclass(frozen=True)
class ChosenPlaintextSettings:
    pass


class ChosenPlaintext(Attack[ChosenPlaintextSettings]):
    """Encrypts a few chosen images whose ciphertexts reveal the key."""

    name = "chosen-plaintext"
    title = "Chosen plaintext"
    source = "Unveil"
    threat_model = ThreatModel.CHOSEN_PLAINTEXT
    Settings = ChosenPlaintextSettings

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        if scheme.trains:
            return "a network does more than move and invert values; see `itn` and `itn-strong`"
        if scheme.key_per_image:
            return "every image has a key of its own: the oracle reveals nothing about the key of another image"
        return None

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        from unveil.models.recovery import chosen_plaintext

        oracle, scheme = attack_input.oracle, attack_input.scheme
        if oracle is None:
            raise AttackFailed("an encryption oracle is needed; none was given")
        height, width = attack_input.targets.shape[1:3]
        context.report(0.0, "querying the oracle")
        try:
            if isinstance(scheme, Pixelwise):
                pixels = chosen_plaintext.pixelwise(oracle, height, width)
                return _attack_result(scheme.decrypt(attack_input.targets, pixels.key), pixels.key, pixels.queries)
            if isinstance(scheme, Tanaka):
                permutation = chosen_plaintext.tanaka(oracle, height, width)
                key = permutation.key.to_key(scheme.settings.variant)
                return _attack_result(permutation.key.decrypt(attack_input.targets), key, permutation.queries)
            if isinstance(scheme, Ele):
                shuffled = chosen_plaintext.ele(oracle, height, width)
                return _attack_result(
                    scheme.decrypt(attack_input.targets, shuffled.key), shuffled.key, shuffled.queries
                )
            if isinstance(scheme, Etc):
                blocks = chosen_plaintext.etc(oracle, height, width)
                return _attack_result(scheme.decrypt(attack_input.targets, blocks.key), blocks.key, blocks.queries)
            nibbles = chosen_plaintext.nibble_map(oracle, height, width)
            return _attack_result(nibbles.key.decrypt(attack_input.targets), None, nibbles.queries)
        except ValueError as error:
            raise AttackFailed(str(error)) from error


def _attack_result(reconstructed: Images, key: Any, queries: int) -> AttackResult:
    return AttackResult(
        reconstructed=reconstructed,
        key=key,
        metrics={"queries": float(queries)},
        notes=(f"{queries} chosen image{'s' if queries > 1 else ''} encrypted by the oracle",),
    )
