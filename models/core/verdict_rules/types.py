"""Types and constants of the verdict rules (`models.core.verdict_rules.rules`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from unveil.models.core.json_record import JsonRecord
from unveil.models.core.threat_models import NAMED_THREAT_MODELS, Capability, ThreatModel
from unveil.models.core.verdict_rules.coverage import AttackNote, RequiredAttack
from unveil.models.core.verdict_rules.evidence import CellEvidence

Verdict = Literal["broken", "leaks", "no leak found", "inconclusive"]
SeverityKind = Literal["key", "ssim", "linkage", "identification"]

RULES_VERSION = 2
EARLIER_RULES = 1  # before evidence was stored
WORST_FIRST: tuple[Verdict, ...] = ("broken", "leaks", "inconclusive", "no leak found")
# The weakest attacker first.
THREAT_MODELS = tuple(model.name for model in (*NAMED_THREAT_MODELS, ThreatModel.of(Capability.MODEL)))

BROKEN_SSIM = 0.9
SEARCHABLE_BITS = 80
FAMILY_ERROR = 0.01  # of a false `leaks` per scheme: half for rates, half for single images
POWER_ERROR = 0.05  # of all upper bounds of a scheme together
DETECTABLE_SHARE = 0.05  # above chance: a leak of this share must be excluded before `no leak found`
MIN_EFFECTIVE_GALLERY = 20
GROUND_TRUTH_ERROR = 0.001  # of calling correct originals wrong, per scheme


@dataclass(frozen=True)
class EvaluatedScheme:
    """What the verdict on one scheme is computed from.

    required: the profile's attacks that apply. material: threat models whose material the attacker was given.
    natural_output: the scheme declares that its ciphertexts look like natural images.
    """

    cells: tuple[CellEvidence, ...]
    required: tuple[RequiredAttack, ...]
    material: tuple[str, ...] = ("ciphertext-only",)
    profile: str = "paper"
    natural_output: bool = False


@dataclass(frozen=True)
class Severity(JsonRecord):
    """The size of the worst finding, with its 95 % interval."""

    kind: SeverityKind
    value: float
    ci_low: float
    ci_high: float
    images: int
    """How many images the value was measured on; for a key, how many keys"""


@dataclass(frozen=True)
class Power(JsonRecord):
    """The smallest leak that the evaluation could have detected."""

    upper_bound: float
    """Of the identification or linkage rate, at 95 % confidence over all attacks and comparisons together"""
    chance: float
    gallery: int
    effective_gallery: float
    """Number of distinct images in the gallery: near-duplicates count once"""
    images: int

    @property
    def enough(self) -> bool:
        return self.upper_bound < self.chance + DETECTABLE_SHARE and self.effective_gallery >= MIN_EFFECTIVE_GALLERY


@dataclass(frozen=True)
class CheapestBreak(JsonRecord):
    """The break that needs the weakest attacker and the least material. null: the attack does not report it."""

    attack: str
    ciphertexts: int | None
    pairs: int | None
    queries: int | None
    seconds: float | None


@dataclass(frozen=True)
class Finding:
    """A break or a leak that one cell showed."""

    verdict: Literal["broken", "leaks"]
    because: str
    severity: Severity
    cell: CellEvidence


@dataclass(frozen=True)
class CellVerdict:
    verdict: Verdict
    leaking_images: tuple[int, ...]
    comparison: str | None  # of the highest identification rate


@dataclass(frozen=True)
class ThreatModelVerdict(JsonRecord):
    verdict: Verdict
    because: str
    worst_attack: str | None


@dataclass(frozen=True, kw_only=True)
class SchemeVerdict(JsonRecord):
    """The worst case over the attacks on a scheme."""

    verdict: Verdict
    because: str
    worst_attack: str | None = None
    tried: tuple[AttackNote, ...] = ()
    """Attacks that ran at the profile's strength or more, or that the profile does not require"""
    not_tried: tuple[AttackNote, ...] = ()
    """Attacks of the profile that did not run to their end"""
    weakened: tuple[AttackNote, ...] = ()
    """Attacks of the profile that ran with weaker settings than the profile's"""
    covers: tuple[str, ...] = ()
    """Threat models that the verdict makes a statement about"""
    not_claimed: tuple[AttackNote, ...] = ()
    """Threat models that the verdict makes no statement about"""
    by_threat_model: Mapping[str, ThreatModelVerdict] = field(default_factory=dict)
    rules_version: int = EARLIER_RULES
    """1: the result was stored before evidence was, and the verdict cannot be recomputed"""
    severity: Severity | None = None
    cheapest_break: CheapestBreak | None = None
    power: Power | None = None
