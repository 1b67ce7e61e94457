"""An evaluation as callers see it. The API answers with these types; client, dashboard and report read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from unveil.app.db.job_states import Status
from unveil.models.core.cell_result import CellResult, UtilityResult
from unveil.models.core.json_record import JsonRecord
from unveil.models.core.threat_models import Capability
from unveil.models.core.verdict_rules.evidence import Ambiguity
from unveil.models.core.verdict_rules.types import SchemeVerdict, Verdict

Entry = Mapping[str, Any]  # a scheme or an attack: its name, and its settings flat beside it


@dataclass(frozen=True, kw_only=True)
class JobError(JsonRecord):
    code: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Progress(JsonRecord):
    done: int
    """Cells that succeeded or failed; not those that were cancelled"""
    total: int
    """Number of cells that can run, without those that do not apply"""
    fraction: float
    """0 to 1, never falls; cells that train networks weigh more"""
    eta_s: float | None
    """Null if the time left cannot be estimated yet"""
    phase: str | None
    """Such as `itn on tanaka, epoch 4 of 20`; while nothing runs, what the queued jobs wait for"""


@dataclass(frozen=True, kw_only=True)
class Sample(JsonRecord):
    """A stored triple of images, as paths."""

    index: int
    ssim: float | None
    plain: str | None
    protected: str
    reconstructed: str


@dataclass(frozen=True, kw_only=True)
class Job(JsonRecord):
    id: str
    scheme: Entry
    status: Status
    progress: float
    phase: str | None = None
    """What a running job does, or what a queued one waits for"""
    error: JobError | None = None
    reason: str | None = None
    """Why the job cannot run (status not_applicable)"""
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Cell(Job):
    """One scheme under one attack. `result` is null until the cell has succeeded."""

    attack: Entry
    threat_model: str
    requested: bool = True
    """False: added because the profile requires the attack"""
    capabilities: list[Capability] = field(default_factory=list)
    """What the attacker was given"""
    leaking_images: list[int] = field(default_factory=list)
    """Indices of images that are recognizable above chance, the most certain first"""
    ambiguity: Ambiguity | None = None
    """Ambiguity of the reconstruction: scores are those of the best `mirror` or `rotation`"""
    comparison: str | None = None
    """The comparison with the highest identification rate"""
    attempt: int = 0
    """How many workers have claimed the cell so far"""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    origin: Mapping[str, Mapping[str, Any] | None] | None = None
    """Distribution, version and source_sha256 of `scheme` and `attack`: of the result, or as installed now"""
    result: CellResult | None = None
    samples: list[Sample] = field(default_factory=list)

    @property
    def ssim(self) -> float | None:
        """Mean SSIM between the plain images and the reconstructions."""
        return None if self.result is None or self.result.ssim is None else self.result.ssim.mean

    @property
    def verdict(self) -> Verdict | None:
        return None if self.result is None else self.result.verdict


@dataclass(frozen=True, kw_only=True)
class UtilityJob(Job):
    """The utility of one scheme, measured beside the cells."""

    result: UtilityResult | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationVerdict(SchemeVerdict):
    """The verdict on one scheme, with the paper's verdicts by attack."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        **JsonRecord.__pydantic_config__,
        "json_schema_extra": {
            "examples": [
                {
                    "verdict": "broken",
                    "because": "key-recovery found the exact key from 64 ciphertexts",
                    "worst_attack": "key-recovery",
                    "tried": [
                        {"attack": "none", "threat_model": "ciphertext-only", "reason": "at the profile's strength"},
                        {
                            "attack": "key-recovery",
                            "threat_model": "ciphertext-only",
                            "reason": "at the profile's strength",
                        },
                    ],
                    "not_tried": [{"attack": "itn", "threat_model": "known-plaintext", "reason": "not requested"}],
                    "weakened": [
                        {"attack": "fr", "threat_model": "ciphertext-only", "reason": "L=1, the profile has 8"}
                    ],
                    "covers": ["ciphertext-only", "known-plaintext"],
                    "not_claimed": [{"attack": "", "threat_model": "+model", "reason": "no material given"}],
                    "by_threat_model": {
                        "ciphertext-only": {
                            "verdict": "broken",
                            "because": "key-recovery found the exact key from 64 ciphertexts",
                            "worst_attack": "key-recovery",
                        },
                        "known-plaintext": {
                            "verdict": "inconclusive",
                            "because": "not run: itn (not requested)",
                            "worst_attack": None,
                        },
                    },
                    "rules_version": 2,
                    "severity": {"kind": "key", "value": 1.0, "ci_low": 0.29, "ci_high": 1.0, "images": 3},
                    "cheapest_break": {
                        "attack": "key-recovery",
                        "ciphertexts": 64,
                        "pairs": None,
                        "queries": None,
                        "seconds": 4.1,
                    },
                    "power": {
                        "upper_bound": 1.0,
                        "chance": 0.002,
                        "gallery": 500,
                        "effective_gallery": 497.4,
                        "images": 500,
                    },
                    "scheme": {"name": "tanaka", "variant": "paper", "block": 4},
                    "paper": {"fr": "robust", "itn": "not robust", "gan": "not robust"},
                }
            ]
        },
    }

    scheme: Entry
    paper: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation(JsonRecord):
    id: str
    name: str
    status: Status
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: Progress
    verdicts: list[EvaluationVerdict]
    cells: list[Cell]
    utility: list[UtilityJob] = field(default_factory=list)
    keys: list[Mapping[str, Any]] = field(default_factory=list)
    settings: Mapping[str, Any]
    tags: list[str] = field(default_factory=list)
    notes: str = ""
    versions: Mapping[str, str | None] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
