"""Threat models: the set of capabilities that an attack assumes of the attacker."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Capability(StrEnum):
    """One kind of material that an attacker may hold."""

    CIPHERTEXTS = "ciphertexts"
    PUBLIC_IMAGES = "public"  # unpaired plain images of the same kind
    PAIRS = "pairs"  # plain images with their ciphertexts under the attacked key
    ORACLE = "oracle"  # encrypts chosen images under the attacked key
    MODEL = "model"  # a classifier of protected images
    LABELS = "labels"  # the classes of the observed ciphertexts


@dataclass(frozen=True)
class ThreatModel:
    """What an attacker holds beside the algorithm and its settings, which are always public (Kerckhoffs).

    Every attacker holds ciphertexts. Four sets have a name of their own; the name of any other set lists the rest,
    such as `known-plaintext +labels`.
    """

    capabilities: frozenset[Capability]

    CIPHERTEXT_ONLY: ClassVar[ThreatModel]
    PUBLIC_IMAGES: ClassVar[ThreatModel]
    KNOWN_PLAINTEXT: ClassVar[ThreatModel]
    CHOSEN_PLAINTEXT: ClassVar[ThreatModel]

    @classmethod
    def of(cls, *capabilities: Capability) -> ThreatModel:
        """The threat model of an attacker with ciphertexts and these capabilities."""
        return cls(frozenset({Capability.CIPHERTEXTS, *capabilities}))

    def __contains__(self, capability: Capability) -> bool:
        return capability in self.capabilities

    @property
    def name(self) -> str:
        """The name in the API: a shorthand, then `+` and each further capability."""
        extra = [f"+{_WORDS.get(c, c)}" for c in Capability if c in self and c not in _IMPLIED_BY_A_SHORTHAND]
        base = [name for capability, name in _SHORTHANDS.items() if capability in self][:1]
        return " ".join(base + extra) or "ciphertext-only"


_SHORTHANDS = {Capability.ORACLE: "chosen-plaintext", Capability.PAIRS: "known-plaintext"}
_WORDS = {Capability.PUBLIC_IMAGES: "public images"}
_IMPLIED_BY_A_SHORTHAND = {Capability.CIPHERTEXTS, *_SHORTHANDS}

ThreatModel.CIPHERTEXT_ONLY = ThreatModel.of()
ThreatModel.PUBLIC_IMAGES = ThreatModel.of(Capability.PUBLIC_IMAGES)
ThreatModel.KNOWN_PLAINTEXT = ThreatModel.of(Capability.PAIRS)
ThreatModel.CHOSEN_PLAINTEXT = ThreatModel.of(Capability.ORACLE)

NAMED_THREAT_MODELS = (
    ThreatModel.CIPHERTEXT_ONLY,
    ThreatModel.PUBLIC_IMAGES,
    ThreatModel.KNOWN_PLAINTEXT,
    ThreatModel.CHOSEN_PLAINTEXT,
)


def models_with(*, public: bool, pairs: bool, oracle: bool) -> tuple[str, ...]:
    """The names of the threat models of attackers with this material or less."""
    given = {Capability.PUBLIC_IMAGES: public, Capability.PAIRS: pairs, Capability.ORACLE: oracle}
    held = {Capability.CIPHERTEXTS, *(capability for capability, is_given in given.items() if is_given)}
    return tuple(model.name for model in NAMED_THREAT_MODELS if model.capabilities <= held)
