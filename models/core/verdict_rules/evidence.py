"""Evidence of a cell: the numbers from which the rules compute verdicts.

The dataclasses are stored with a result (`to_json`, `from_json`), so that a verdict can be recomputed under later
rules. `models.evaluation.key_evidence` computes them from similarities.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from unveil.models.core.cell_result import ControlOutcome
from unveil.models.core.statistics import hits_p_values

EVIDENCE_VERSION = 1
REPORTED_P = 1e-2  # larger p-values of single images are not kept: no rule rejects at them

CellStatus = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled", "not_applicable"]


@dataclass(frozen=True)
class Rate:
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


@dataclass(frozen=True)
class ImageFinding:
    """A single image whose reconstruction resembles its original. p_value: corrected for the comparisons."""

    index: int
    p_value: float
    comparison: str


@dataclass(frozen=True)
class Misplaced:
    """A reconstruction that shows another original than its own. p_value: corrected for images and comparisons."""

    index: int
    shows: int
    p_value: float
    comparison: str


@dataclass(frozen=True)
class KeyEvidence:
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
class Effort:
    """The material and time that an attack used, None where it does not report them."""

    ciphertexts: int | None = None
    pairs: int | None = None
    queries: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class CellEvidence:
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
    controls: Mapping[str, ControlOutcome] = dataclasses.field(default_factory=dict)
    gallery: int = 0
    effective_gallery: float = 0.0
    effective_bits: float | None = None
    natural_looking: tuple[int, ...] = ()
    matched_public: tuple[int, ...] = ()
    ambiguity: str | None = None
    effort: Effort = Effort()

    def to_json(self) -> dict[str, Any]:
        return {"version": EVIDENCE_VERSION, **dataclasses.asdict(self)}


def from_json(stored: Mapping[str, Any]) -> CellEvidence | None:
    """Evidence as `to_json` wrote it; None for a version that these rules do not know."""
    values = dict(stored)
    if values.pop("version", None) != EVIDENCE_VERSION:
        return None
    values["keys"] = tuple(_key_from_json(key) for key in values["keys"])
    values["effort"] = Effort(**values["effort"])
    for name in ("natural_looking", "matched_public"):
        values[name] = tuple(values[name])
    return CellEvidence(**values)


def _key_from_json(stored: Mapping[str, Any]) -> KeyEvidence:
    values = dict(stored)
    values["rates"] = tuple(Rate(**rate) for rate in values["rates"])
    values["linkage"] = values["linkage"] and Rate(**values["linkage"])
    values["findings"] = tuple(ImageFinding(**finding) for finding in values["findings"])
    values["misplaced"] = tuple(Misplaced(**found) for found in values["misplaced"])
    values["ssim_interval"] = values["ssim_interval"] and tuple(values["ssim_interval"])
    return KeyEvidence(**values)
