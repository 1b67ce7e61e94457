"""The board: schemes compared across evaluations of one dataset. The API answers with these types; pages read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from unveil.app.report.evaluation import Entry
from unveil.models.core.json_record import JsonRecord
from unveil.models.core.verdict_rules.types import THREAT_MODELS, CheapestBreak, Severity, Verdict

PaperVerdict = Literal["robust", "not robust"]


@dataclass(frozen=True, kw_only=True)
class ThreatModelFigures(JsonRecord):
    """The worst case of a scheme under one threat model, and the cell that shows it."""

    verdict: Verdict
    because: str
    attack: str | None
    """Attack that the verdict is based on; without a finding, the attack that reveals the most. null: none finished"""
    profile: str
    ssim: float | None = None
    vif: float | None = None
    identification: float | None = None
    """Share of images identified in the gallery"""
    linkage: float | None = None
    """Share of ciphertexts that a recogniser links to their originals"""
    ciphertexts: int | None = None
    pairs: int | None = None
    queries: int | None = None
    seconds: float | None = None
    """Of the whole cell"""
    evaluation: str
    cell: str | None
    """null if no attack finished"""


@dataclass(frozen=True, kw_only=True)
class BoardUtility(JsonRecord):
    """Accuracy of a classifier on plain and on protected images."""

    plain: float
    protected: float
    drop: float
    """Points of accuracy lost"""
    evaluation: str


@dataclass(frozen=True, kw_only=True)
class BoardCost(JsonRecord):
    images_per_second: float | None


@dataclass(frozen=True, kw_only=True)
class BoardBreak(CheapestBreak):
    """The cheapest break, and the cell that shows it."""

    threat_model: str
    evaluation: str
    cell: str


@dataclass(frozen=True, kw_only=True)
class BoardRow(JsonRecord):
    """One scheme with its settings: the worst case over all finished evaluations of the dataset."""

    scheme: Entry
    """Without the id of a key: all keys of a scheme share its row"""
    title: str
    label: str
    """The scheme in the syntax of the command line, used for file names"""
    verdict: Verdict
    because: str
    headline: str
    """Such as `broken with 2 protected images in 4.0 s`"""
    evaluation: str
    """Evaluation that the verdict is based on"""
    cell: str | None
    by_threat_model: Mapping[str, ThreatModelFigures]
    leak: float | None = None
    """How much the worst attack reveals, 0 to 1: SSIM, or identification above chance; 1 for an exact key"""
    severity: Severity | None = None
    cheapest_break: BoardBreak | None = None
    utility: BoardUtility | None = None
    cost: BoardCost | None = None
    key_space_bits: float | None = None
    effective_bits: float | None = None
    origin: Mapping[str, Any] | None = None
    """Distribution, version and source_sha256 of the scheme"""
    versions: Mapping[str, str | None] = field(default_factory=dict)
    """Of the worker that computed the figures of the verdict"""
    seed: int
    profile: str
    command: str
    """Command that repeats the evaluation of the verdict, for this scheme"""
    evaluations: list[str]
    """Ids, oldest first"""
    measured_at: datetime
    """Time at which the newest of these evaluations finished"""


@dataclass(frozen=True, kw_only=True)
class PaperFigures(JsonRecord):
    verdict: PaperVerdict | None
    attack: str
    ssim: float | None


@dataclass(frozen=True, kw_only=True)
class PaperBoardRow(JsonRecord):
    """A row of the paper's tables: the highest SSIM under each threat model, and the authors' verdict."""

    scheme: Entry
    title: str
    by_threat_model: Mapping[str, PaperFigures]
    training: bool
    """Whether a classifier can be trained on protected images"""
    testing: bool
    classification: Literal["High", "Low"]
    cost: Literal["High", "Low"]


@dataclass(frozen=True, kw_only=True)
class BoardDataset(JsonRecord):
    """A dataset with finished evaluations."""

    dataset: str
    dataset_sha256: str
    evaluations: int
    profiles: list[str]


@dataclass(frozen=True, kw_only=True)
class Board(JsonRecord):
    rows: list[BoardRow]
    """The worst verdict first"""
    paper: list[PaperBoardRow]
    dataset: str | None
    """null if no evaluation has finished"""
    dataset_sha256: str | None
    profiles: list[str]
    """With finished evaluations of the dataset"""
    datasets: list[BoardDataset] = field(default_factory=list)
    """Datasets with a board, the one with the most evaluations first"""
    profile: str | None = None
    threat_model: str | None = None
    rules_version: int
    pending: int = 0
    """Number of finished evaluations that are not on the board yet; repeat the request to add more"""

    @property
    def threat_models(self) -> list[str]:
        """Of the rows, the weakest attacker first."""
        measured = {model for row in self.rows for model in row.by_threat_model}
        return sort_threat_models(measured | {model for row in self.paper for model in row.by_threat_model})


def sort_threat_models(names: Iterable[str]) -> list[str]:
    """The weakest attacker first; those of plug-ins last."""
    order = {name: position for position, name in enumerate(THREAT_MODELS)}
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))


@dataclass(frozen=True, kw_only=True)
class Card(JsonRecord):
    """A scheme of a published board in a file of its own."""

    row: BoardRow
    dataset: str
    dataset_sha256: str
    rules_version: int
