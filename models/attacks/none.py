"""No attack: the ciphertext itself, scored as a reconstruction."""

from __future__ import annotations

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.core.run_context import RunContext
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import NoSettings


class NoAttack(Attack[NoSettings]):
    """Returns the protected image unchanged; its scores are the baseline of all attacks."""

    name = "none"
    title = "No attack"
    source = "Unveil: the protected image as it is"
    threat_model = ThreatModel.CIPHERTEXT_ONLY

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:  # noqa: ARG002
        return AttackResult(reconstructed=attack_input.targets)
