"""Evidence of a cell: the numbers from which the rules compute verdicts.

A result stores its evidence, so that a verdict can be recomputed under later rules.
`models.evaluation.key_evidence` computes it from similarities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from unveil.models.core.json_record import JsonRecord
from unveil.models.core.statistics import hits_p_values

EVIDENCE_VERSION = 1
REPORTED_P = 1e-2  # larger p-values of single images are not kept: no rule rejects at them

Ambiguity = Literal["mirror", "rotation"]  # what an attack leaves open; `rotation` includes mirrors
ControlOutcome = Literal["passed", "failed"]
CellStatus = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled", "not_applicable"]


@dataclass(frozen=True)
class Rate(JsonRecord):
    """Hits of one comparison: originals ranked first for their reconstruction."""

    comparison: str
    hits: int
    trials: int
    chance: float

    @property
    def value(self) -> float:
        return self.hits / self.trials

    @property
    def p_value(self) -> float:
        return float(hits_p_values(self.hits, self.trials, self.chance))


class ImageFinding(NamedTuple):
    """A single image whose reconstruction resembles its original. p_value: corrected for the comparisons."""

    index: int  # type: ignore[assignment]  # hides tuple.index
    p_value: float
    comparison: str


@dataclass(frozen=True)
class Misplaced(JsonRecord):
    """A reconstruction that shows another original than its own. p_value: corrected for images and comparisons."""

    index: int
    shows: int
    p_value: float
    comparison: str


@dataclass(frozen=True)
class KeyEvidence(JsonRecord):
    """One key, or one seed of a random attack.

    rates: identification by comparison. findings: the single images with the smallest p-values, ascending, of
    `images_tested`. ssim: mean over images, up to the declared ambiguity. key_exact: the attack found this very key;
    None where it looked for none. order_p_value: of the hypothesis that no shift or reversal relates the order of
    originals to that of reconstructions.
    """

    rates: tuple[Rate, ...] = ()
    images_tested: int = 0
    findings: tuple[ImageFinding, ...] = ()
    linkage: Rate | None = None
    ssim: float | None = None
    ssim_interval: tuple[float, float] | None = None
    key_exact: bool | None = None
    misplaced: tuple[Misplaced, ...] = ()
    order_p_value: float = 1.0


@dataclass(frozen=True)
class Effort(JsonRecord):
    """The material and time that an attack used; None if it does not report them."""

    ciphertexts: int | None = None
    pairs: int | None = None
    queries: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class CellEvidence(JsonRecord):
    """One cell. settings: every resolved setting of the attack.

    natural_looking: indices of ciphertexts with the statistics of natural images; matched_public: those of them that
    match a public image. controls: empty where an attack has none, such as `brute-force`.
    """

    attack: str
    threat_model: str
    settings: Mapping[str, Any]
    status: CellStatus
    reason: str = ""  # why it failed or does not apply
    keys: tuple[KeyEvidence, ...] = ()
    controls: Mapping[str, ControlOutcome] = field(default_factory=dict)
    gallery: int = 0
    effective_gallery: float = 0.0
    effective_bits: float | None = None
    natural_looking: tuple[int, ...] = ()
    matched_public: tuple[int, ...] = ()
    ambiguity: Ambiguity | None = None
    effort: Effort = Effort()
    version: int = EVIDENCE_VERSION

    @property
    def is_current(self) -> bool:
        """Whether these rules can read it."""
        return self.version == EVIDENCE_VERSION
