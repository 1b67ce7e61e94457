"""Threat models: what the attacker holds."""

from __future__ import annotations

from enum import StrEnum


class ThreatModel(StrEnum):
    """What an attacker holds besides the algorithm, which is public (Kerckhoffs)."""

    CIPHERTEXT_ONLY = "ciphertext-only"
    PUBLIC_IMAGES = "+public images"  # ciphertexts and unpaired plain images of the same kind
    KNOWN_PLAINTEXT = "known-plaintext"  # pairs of plain and protected images
    CHOSEN_PLAINTEXT = "chosen-plaintext"  # an encryption oracle
