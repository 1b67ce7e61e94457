"""Results of cells: one typed schema for evaluation code, database, API, reports, command line and client.

Stored and sent as JSON under the same field names. Fields of other versions survive reading and writing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from unveil.models.core.json_record import JsonRecord
from unveil.models.core.threat_models import Capability
from unveil.models.core.verdict_rules.evidence import Ambiguity, CellEvidence, ControlOutcome
from unveil.models.core.verdict_rules.types import WORST_FIRST, CellVerdict, Verdict

Level = Literal["High", "Low"]


@dataclass(frozen=True, kw_only=True)
class ScoreSummary(JsonRecord):
    """A score over the test images: mean, standard deviation, 95 % bootstrap interval of the mean."""

    mean: float
    std: float
    ci_low: float
    ci_high: float
    n: int
    per_key: list[float] | None = None
    """The mean under each key, where several were drawn"""


@dataclass(frozen=True, kw_only=True)
class SsimSummary(ScoreSummary):
    """Structural similarity between originals and reconstructions; 1 for identical images."""

    mode: str


@dataclass(frozen=True, kw_only=True)
class IdentificationSummary(JsonRecord):
    """How often the true original is the image of the gallery most similar to the reconstruction.

    By the best of all comparisons; near-duplicates of the original count as the original.
    """

    top1: float
    chance: float
    ci_low: float
    ci_high: float
    gallery: int
    effective_gallery: float | None = None
    """Number of distinct images in the gallery: near-duplicates count once"""
    comparison: str | None = None
    """The comparison with the highest rate, such as `correlation-4` or `dihedral-24`"""
    scale: int | None = None
    """Factor by which a `correlation` comparison averages images down; null for other comparisons"""
    above_chance: bool
    """Whether the rate, or a single image, is above chance: see the error rate of the verdict rules"""
    per_key: list[float] | None = None


@dataclass(frozen=True, kw_only=True)
class LinkageSummary(JsonRecord):
    """The share of ciphertexts that a recogniser, trained by the attacker, links to their original in the gallery."""

    top1: float
    chance: float
    ci_low: float
    ci_high: float
    gallery: int
    effective_gallery: float
    """Number of distinct images in the gallery: near-duplicates count once"""


@dataclass(frozen=True, kw_only=True)
class AssemblySummary(JsonRecord):
    """How well an attack put scrambled blocks together: means over images, 0 to 1."""

    direct: float
    """D_c: share of the blocks that are in their place"""
    neighbour: float
    """N_c: share of the borders between blocks that are borders of the original"""
    largest: float
    """L_c: share of the blocks in the largest part that such borders hold together"""


@dataclass(frozen=True, kw_only=True)
class Controls(JsonRecord):
    """The attack on an inverted image, which it must reconstruct, and on noise, where it must find nothing."""

    positive: ControlOutcome
    negative: ControlOutcome

    @property
    def failed(self) -> list[str]:
        """The names of the controls that failed."""
        return [name for name, outcome in vars(self).items() if outcome == "failed"]


@dataclass(frozen=True, kw_only=True)
class RecognitionRate(JsonRecord):
    """The accuracy of a classifier of plain images."""

    top1: float
    """Of the reconstructions"""
    protected: float
    plain: float
    chance: float


@dataclass(frozen=True, kw_only=True)
class CellResult(JsonRecord):
    """What an attack on a scheme achieved."""

    ssim: SsimSummary | None = None
    psnr: ScoreSummary | None = None
    """In dB, at most 100"""
    vif: ScoreSummary | None = None
    """Visual information fidelity; null for images below 41 pixels a side"""
    assembly: AssemblySummary | None = None
    """Of attacks that put scrambled blocks together; null for every other"""
    linkage: LinkageSummary | None = None
    """Of the attack `linkage`; null for every other"""
    fixed_positions: float | None = None
    """Share of values, or of blocks, that the scheme leaves in place (attack `none`)"""
    identification: IdentificationSummary | None = None
    key_agreement: Mapping[str, float | bool] | None = None
    """Share of equal entries of each part of the key, and `exact`: whether the attack found the key itself"""
    key_space_bits: float | None = None
    """log2 of the number of keys (brute-force)"""
    effective_bits: float | None = None
    """log2 of the cost of an exhaustive search, at most the bits of a stored secret (brute-force)"""
    paper_ssim: float | None = None
    controls: Controls | None = None
    recogniser: RecognitionRate | None = None
    """With `utility`: the accuracy of a classifier of plain images on the reconstructions"""
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By the metrics of plug-ins: mean, standard deviation, 95 % bootstrap interval of the mean"""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """What the attack used and counted: `ciphertexts`, `pairs`, `queries` and others"""
    trained_key: Mapping[str, Any] | None = None
    """Provenance of the key that was trained for the cell"""
    verdict: Verdict
    leaking_images: list[int] = field(default_factory=list)
    """Indices of images that are recognizable above chance, the most certain first"""
    median_image: int | None = None
    """Index of the image with the median SSIM under the first key, which reports show for the cell"""
    comparison: str | None = None
    """The comparison with the highest identification rate"""
    ambiguity: Ambiguity | None = None
    """Ambiguity of the reconstruction: scores are those of the best `mirror` or `rotation` (mirrors included)"""
    capabilities: list[Capability] = field(default_factory=list)
    """What the attacker was given"""
    dataset_sha256: str | None = None
    """SHA-256 of the images and labels of the dataset, or of the uploaded ciphertexts"""
    originals_sha256: str | None = None
    """SHA-256 of the uploaded originals of uploaded ciphertexts"""
    evidence: CellEvidence | None = None
    """Input of the verdict rules. Stored, but left out of responses"""
    seconds: float
    device: str
    notes: list[str] = field(default_factory=list)
    hardware: str | None = None
    """Processor and GPU of the worker; null in results of versions before 0.2"""
    versions: Mapping[str, str | None] | None = None
    """Of the worker that computed the result"""
    origin: Mapping[str, Mapping[str, Any] | None] | None = None
    """Distribution, version and source_sha256 of `scheme` and `attack`"""

    def with_verdict(self, found: CellVerdict) -> CellResult:
        """With the verdict that follows from all cells of the scheme together."""
        leaking = list(found.leaking_images)
        return replace(self, verdict=found.verdict, leaking_images=leaking, comparison=found.comparison)

    @property
    def is_scored(self) -> bool:
        """Whether there is a figure: an SSIM, a linkage rate, or the size of a key space."""
        return self.ssim is not None or self.linkage is not None or self.key_space_bits is not None

    @property
    def found_exact_key(self) -> bool:
        return bool((self.key_agreement or {}).get("exact"))

    @property
    def key_shares(self) -> dict[str, float]:
        """Share of equal entries by part of the key."""
        return {part: share for part, share in (self.key_agreement or {}).items() if part != "exact"}

    @property
    def failed_controls(self) -> list[str]:
        return [] if self.controls is None else self.controls.failed

    @property
    def severity_rank(self) -> tuple[int, bool, float]:
        """Sorts results, the worst for the scheme first."""
        ssim = -1.0 if self.ssim is None else self.ssim.mean
        leakage = ssim + (0.0 if self.identification is None else self.identification.top1)
        return WORST_FIRST.index(self.verdict), not self.found_exact_key, -leakage


@dataclass(frozen=True, kw_only=True)
class AccuracyRate(JsonRecord):
    """A share of the test images, with its 95 % interval."""

    top1: float
    ci_low: float
    ci_high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class AccuracyDrop(JsonRecord):
    """Loss of accuracy on the same test images in percentage points, with its 95 % interval."""

    points: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True, kw_only=True)
class Availability(JsonRecord):
    """Whether a classifier can be trained or tested on protected images."""

    available: bool | None
    """null: undecided, because the classifier is not above chance on plain images either"""
    reason: str


@dataclass(frozen=True, kw_only=True)
class ProtectionCost(JsonRecord):
    level: Level | None
    """High: a network protects the images; Low: a key and arithmetic"""
    images_per_second: float | None
    parameters: int | None
    """Weights of the network that protects"""


@dataclass(frozen=True, kw_only=True)
class UtilityResult(JsonRecord):
    """What protection costs a classifier in accuracy, and what protecting costs in time."""

    plain: AccuracyRate
    protected: AccuracyRate
    drop: AccuracyDrop
    chance: float
    classification: Level | None
    """High: a drop of at most 3 points; null: undecided, where the plain classifier does no better than chance"""
    training: Availability
    testing: Availability
    cost: ProtectionCost
    classifier: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the classifier"""
    seconds: float
    device: str
    notes: list[str] = field(default_factory=list)
    hardware: str | None = None
    versions: Mapping[str, str | None] | None = None
    origin: Mapping[str, Mapping[str, Any] | None] | None = None
    """Distribution, version and source_sha256 of `scheme`"""


def stored_headline(stored: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The fields of a stored result that events carry."""
    return None if stored is None else {name: stored.get(name) for name in ("ssim", "identification", "verdict")}
