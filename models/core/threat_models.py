"""Threat models: the data that an attacker holds."""

from __future__ import annotations

from enum import StrEnum


class ThreatModel(StrEnum):
    """The data that an attacker holds. The algorithm and its settings are always public (Kerckhoffs)."""

    CIPHERTEXT_ONLY = "ciphertext-only"
    PUBLIC_IMAGES = "+public images"  # ciphertexts and unpaired plain images of the same kind
    KNOWN_PLAINTEXT = "known-plaintext"  # pairs of plain and protected images
    CHOSEN_PLAINTEXT = "chosen-plaintext"  # an encryption oracle
