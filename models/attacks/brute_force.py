"""Brute-force attack: the number of keys to try (paper section 3.1, equations 1 and 3) [P]."""

from __future__ import annotations

from typing import Any

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.core.run_context import RunContext
from unveil.models.core.structure import NetworkMap
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import NoSettings, Scheme


class BruteForce(Attack[NoSettings]):
    """Computes the cost of trying every key; tries none."""

    name = "brute-force"
    title = "Brute force"
    source = "paper section 3.1"
    threat_model = ThreatModel.CIPHERTEXT_ONLY

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        if isinstance(scheme.structure, NetworkMap):
            return "the secret is the weights of a network, which are not countable (paper section 3.1)"
        if scheme.key_space_bits(scheme.size_multiple, scheme.size_multiple) is None:
            return "the scheme does not state the number of its keys"
        return None

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:  # noqa: ARG002
        if attack_input.scheme is None:
            raise ValueError("the key space of an unknown scheme cannot be counted")
        height, width = attack_input.targets.shape[1:3]
        bits = attack_input.scheme.key_space_bits(height, width)
        if bits is None:
            raise ValueError("the keys of this scheme cannot be counted")
        return AttackResult(metrics={"key_space_bits": bits})
