"""Known plaintext: the exact key from one to four pairs of plain and protected images [M]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unveil.models.attacks.base import Attack, AttackInput, AttackResult, Pairs
from unveil.models.attacks.key_recovery import Decrypt
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme
from unveil.models.schemes.ele import Ele
from unveil.models.schemes.etc import Etc
from unveil.models.schemes.pixelwise import Pixelwise
from unveil.models.schemes.tanaka import Tanaka

CURVE = "ssim_by_pairs"
CURVE_TARGETS = 32


@dataclass(frozen=True)
class KnownPlaintextSettings:
    pairs: int = setting(4, "Number of pairs of plain and protected images", minimum=1, maximum=64)


class KnownPlaintext(Attack[KnownPlaintextSettings]):
    """Eliminates every key that is inconsistent with the pairs; among several for a pixel, takes the smoothest."""

    name = "known-plaintext"
    title = "Known plaintext"
    source = "Unveil"
    threat_model = ThreatModel.KNOWN_PLAINTEXT
    Settings = KnownPlaintextSettings

    def required_ciphertexts(self) -> int:
        return self.settings.pairs

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        if not isinstance(scheme, Pixelwise | Tanaka | Ele | Etc):
            return "solves keys of pixel-wise encryption, Tanaka's scheme, ELE and EtC; a network has no such key"
        if scheme.key_per_image:
            return "every image has a key of its own: a pair reveals nothing about the key of another image"
        return None

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        pairs = attack_input.pairs
        if pairs is None or not len(pairs.plain):
            raise AttackFailed("at least one pair of a plain image and its ciphertext is needed; none was given")
        pair_count = min(self.settings.pairs, len(pairs.plain))
        ablation, pairs_needed, full_solution = [], pair_count, None
        for count in range(pair_count, 0, -1):
            context.report((pair_count - count) / pair_count, f"{count} pairs")
            decrypt, key, determined = solve_key(attack_input.scheme, pairs, count, attack_input.targets)
            full_solution = full_solution or (decrypt, key, determined)
            ablation.append((CURVE, float(count), decrypt(attack_input.targets[:CURVE_TARGETS])))
            if (decrypt(pairs.protected[:pair_count]) == pairs.plain[:pair_count]).all():
                pairs_needed = count
        assert full_solution is not None
        decrypt, key, determined = full_solution
        return AttackResult(
            reconstructed=decrypt(attack_input.targets),
            key=key,
            metrics={"pairs": float(pair_count), "pairs_needed": float(pairs_needed), "determined": determined},
            ablation=ablation[::-1],
            notes=(f"{determined:.2%} of the key follows from {pair_count} pairs; {pairs_needed} suffice for all",),
        )


def solve_key(scheme: Scheme[Any, Any] | None, pairs: Pairs, count: int, targets: Images) -> tuple[Decrypt, Any, float]:
    """A decryption function, the key in the form of the scheme, and the share that `count` pairs determine."""
    from unveil.models.recovery import known_plaintext

    plain, protected = pairs.plain[:count], pairs.protected[:count]
    try:
        if isinstance(scheme, Pixelwise):
            pixels = known_plaintext.pixelwise(plain, protected, targets)
            return lambda images: scheme.decrypt(images, pixels.key), pixels.key, pixels.determined
        if isinstance(scheme, Tanaka):
            permutation = known_plaintext.tanaka(plain, protected)
            return permutation.key.decrypt, permutation.key.to_key(scheme.settings.variant), permutation.determined
        if isinstance(scheme, Ele):
            nibbles = known_plaintext.ele(plain, protected)
            return lambda images: scheme.decrypt(images, nibbles.key), nibbles.key, nibbles.determined
        if isinstance(scheme, Etc):
            blocks = known_plaintext.etc(plain, protected)
            return lambda images: scheme.decrypt(images, blocks.key), blocks.key, blocks.determined
    except ValueError as error:
        raise AttackFailed(str(error)) from error
    raise AttackFailed("known plaintext needs pixel-wise encryption, Tanaka's scheme, ELE or EtC")
