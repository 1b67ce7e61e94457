"""Types and constants of the verdict rules (`models.core.verdict_rules.rules`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from unveil.models.core.threat_models import NAMED_THREAT_MODELS, Capability, ThreatModel
from unveil.models.core.verdict_rules.coverage import AttackNote, Coverage, RequiredAttack
from unveil.models.core.verdict_rules.evidence import CellEvidence

Verdict = Literal["broken", "leaks", "no leak found", "inconclusive"]
SeverityKind = Literal["key", "ssim", "linkage", "identification"]

RULES_VERSION = 2  # 1: the rules before evidence was stored
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
class Severity:
    """images: how many the value was measured on; for a key, how many keys."""

    kind: SeverityKind
    value: float
    low: float
    high: float
    images: int

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "value": self.value, "ci_low": self.low, "ci_high": self.high, "images": self.images,
        }  # fmt: skip


@dataclass(frozen=True)
class Power:
    """upper_bound: of the identification or linkage rate, over all attacks and comparisons together."""

    upper_bound: float
    chance: float
    gallery: int
    effective_gallery: float
    images: int

    @property
    def enough(self) -> bool:
        return self.upper_bound < self.chance + DETECTABLE_SHARE and self.effective_gallery >= MIN_EFFECTIVE_GALLERY

    def to_json(self) -> dict[str, Any]:
        return {
            "upper_bound": self.upper_bound, "gallery": self.gallery,
            "effective_gallery": round(self.effective_gallery, 2), "images": self.images,
        }  # fmt: skip


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
class ThreatModelVerdict:
    verdict: Verdict
    because: str
    worst_attack: str | None


@dataclass(frozen=True)
class SchemeVerdict:
    """cells: verdicts in the order of the evaluated cells; None for cells that did not finish."""

    verdict: Verdict
    because: str
    worst_attack: str | None
    coverage: Coverage
    covers: tuple[str, ...]
    not_claimed: tuple[AttackNote, ...]
    by_threat_model: dict[str, ThreatModelVerdict]
    severity: Severity | None
    cheapest_break: dict[str, Any] | None
    power: Power | None
    cells: tuple[CellVerdict | None, ...]

    def to_json(self) -> dict[str, Any]:
        """The fields of `verdicts[]` beside `scheme` and `paper`."""
        return {
            "verdict": self.verdict,
            "because": self.because,
            "worst_attack": self.worst_attack,
            "tried": [note.to_json() for note in self.coverage.tried],
            "not_tried": [note.to_json() for note in self.coverage.not_tried],
            "weakened": [note.to_json() for note in self.coverage.weakened],
            "covers": list(self.covers),
            "by_threat_model": {
                name: {"verdict": row.verdict, "because": row.because, "worst_attack": row.worst_attack}
                for name, row in self.by_threat_model.items()
            },
            "rules_version": RULES_VERSION,
            "severity": self.severity and self.severity.to_json(),
            "cheapest_break": self.cheapest_break,
            "power": self.power and self.power.to_json(),
        }
