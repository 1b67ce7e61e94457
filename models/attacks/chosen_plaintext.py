"""Chosen plaintext: the exact key from images made for it, sent through the encryption itself (SCIENCE section 4) [M].

Any scheme that only moves and reverses nibbles gives itself away in five images of 96x96, whatever its key: ELE and EtC
as well. Pixel-wise encryption needs one image, Tanaka's scheme three blocks.
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
    """Encrypts a few images whose ciphertexts spell out the key."""

    name = "chosen-plaintext"
    title = "Chosen plaintext"
    source = "Unveil"
    threat_model = ThreatModel.CHOSEN_PLAINTEXT
    Settings = ChosenPlaintextSettings

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        if scheme.trains:
            return "a network does more than to move and to reverse values; see `itn` and `itn-strong`"
        if scheme.key_per_image:
            return "every image has a key of its own: what the oracle answers says nothing about the key of the next"
        return None

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        from unveil.models.recovery import chosen_plaintext

        oracle, scheme = attack_input.oracle, attack_input.scheme
        if oracle is None:
            raise AttackFailed("needs the encryption as an oracle; none was given")
        height, width = attack_input.targets.shape[1:3]
        context.report(0.0, "asking the oracle")
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
