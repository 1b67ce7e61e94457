"""Structure: recognises from pairs what an unknown cipher does to images, and undoes it.

For ciphers of which nothing is known, such as uploaded ciphertexts. The kinds of structure are in
`unveil.models.structural`, their recall and false alarms in docs/results.md#homemade-ciphers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.attacks.pair_curve import Decrypt, make_pair_curve
from unveil.models.core.errors import AttackFailed
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme

DECLARED_STRUCTURE = "the scheme declares its structure; this attack is for schemes that declare none"


@dataclass(frozen=True)
class StructureSettings:
    pairs: int = setting(64, "Number of pairs of plain and protected images", minimum=2, maximum=512, stronger="higher")


class StructureAttack(Attack[StructureSettings]):
    """Recognises shuffles, keystreams that are used twice, substitutions, linear maps, chains and codebooks."""

    name = "structure"
    title = "Structure from pairs"
    source = "Unveil"
    threat_model = ThreatModel.KNOWN_PLAINTEXT
    Settings = StructureSettings
    runs_first = True

    def required_ciphertexts(self) -> int:
        return self.settings.pairs

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        if scheme.structure is not None:
            return DECLARED_STRUCTURE
        if scheme.key_per_image:
            return "every image has a key of its own: pairs reveal nothing about the key of another image"
        return None

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        from unveil.models.structural.recognition import Search, recognise

        pairs, targets = attack_input.pairs, attack_input.targets
        if pairs is None or len(pairs.plain) < 2:
            raise AttackFailed("at least two pairs of a plain image and its ciphertext are needed")
        plain, protected = pairs.plain[: self.settings.pairs], pairs.protected[: self.settings.pairs]
        fewer = [2**i for i in range(1, len(plain).bit_length()) if 2**i < len(plain)] if context.ablation else []

        def search_first(number: int, points_done: int) -> Search:
            def report(done: float) -> None:
                context.report((points_done + done) / (len(fewer) + 1), f"structure of {number} pairs")

            return recognise(plain[:number], protected[:number], report)

        search = search_first(len(plain), 0)
        found, count = search.found, len(plain)
        if found is None:
            return AttackResult(
                reconstructed=targets,
                metrics={"pairs": float(count), "structures_tried": float(search.tried), "recognised": 0.0},
                notes=(f"none of {search.tried} structures explains {count} pairs; the result is the ciphertexts",),
            )

        def solve_first(number: int) -> Decrypt:
            from_fewer = search_first(number, 1 + fewer.index(number)).found
            if from_fewer is None:
                raise AttackFailed("no structure explains them")
            return from_fewer.inverse.decrypt

        reconstructed = found.inverse.decrypt(targets)
        curve = make_pair_curve(fewer, solve_first, targets, count, reconstructed) if context.ablation else None
        return AttackResult(
            reconstructed=reconstructed,
            inverse=found.inverse,
            metrics={
                "pairs": float(count),
                "structures_tried": float(search.tried),
                "recognised": 1.0,
                "held_out_pairs": float(found.held_out),
                "held_out_exact": found.exact,
            },
            ablation=curve.points if curve else (),
            notes=(found.summary(search.tried), *(curve.notes if curve else ())),
        )
