"""No attack: the ciphertext itself, scored as a reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.core.run_context import RunContext
from unveil.models.core.threat_models import ThreatModel


@dataclass(frozen=True)
class NoneSettings:
    pass


class NoAttack(Attack[NoneSettings]):
    """Returns the protected image unchanged; its scores are the baseline of all attacks."""

    name = "none"
    title = "No attack"
    source = "Unveil: the protected image as it is"
    threat_model = ThreatModel.CIPHERTEXT_ONLY
    Settings = NoneSettings

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:  # noqa: ARG002
        return AttackResult(reconstructed=attack_input.targets)
