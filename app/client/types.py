"""The JSON answers that the client returns as they are. Made by `make docs`; edits here are lost."""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class Dataset(TypedDict):
    id: str
    name: str
    kind: Literal["plain", "protected", "reconstructed"]
    train: int
    test: int
    width: int
    height: int
    classes: list[str]
    available: bool
    note: str
    has_originals: bool
    bytes: int | None
    created_at: str | None


class PaperResults(TypedDict):
    ssim: dict[str, float]
    robust: dict[str, bool]


class SchemeVariant(TypedDict):
    params: dict[str, Any]
    key_per_image: bool
    key_space_bits: float | None
    effective_bits: float | None
    paper: PaperResults | None


class Scheme(TypedDict):
    name: str
    title: str
    source: str
    summary: str
    trains: bool
    invertible: bool
    structure: str | None
    ciphertext: dict[str, Any]
    origin: dict[str, Any]
    size_multiple: int
    parameters: dict[str, Any]
    profiles: dict[str, dict[str, Any]]
    variants: list[SchemeVariant]
    attacks: list[str]


class Attack(TypedDict):
    name: str
    title: str
    source: str
    summary: str
    threat_model: str
    learned: bool
    reads_upload: bool
    takes_unknown_schemes: bool
    origin: dict[str, Any]
    parameters: dict[str, Any]
    profiles: dict[str, dict[str, Any]]
    applies_to: list[str]
    not_applicable: dict[str, str]


class EvaluationSummary(TypedDict):
    id: str
    name: str
    status: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    progress: dict[str, Any]
    verdicts: list[dict[str, Any]]
    links: dict[str, str]


class Account(TypedDict):
    id: str
    name: str
    scopes: list[Literal["encrypt", "keys", "keys:export", "evaluate", "read", "admin"]]
    created_at: str
    revoked_at: str | None
    max_cost_core_hours: float | None


class ThreatModelFigures(TypedDict):
    verdict: Literal["broken", "leaks", "no leak found", "inconclusive"]
    because: str
    attack: str | None
    profile: str
    ssim: float | None
    vif: float | None
    identification: float | None
    linkage: float | None
    ciphertexts: int | None
    pairs: int | None
    queries: int | None
    seconds: float | None
    evaluation: str
    cell: str | None


class BoardUtility(TypedDict):
    plain: float
    protected: float
    drop: float
    evaluation: str


class BoardCost(TypedDict):
    images_per_second: float | None


class BoardBreak(TypedDict):
    attack: str
    ciphertexts: int | None
    pairs: int | None
    queries: int | None
    seconds: float | None
    threat_model: str
    evaluation: str
    cell: str


class Severity(TypedDict):
    kind: Literal["key", "ssim", "linkage", "identification"]
    value: float
    ci_low: float
    ci_high: float
    images: int


class BoardRow(TypedDict):
    scheme: dict[str, Any]
    title: str
    label: str
    verdict: Literal["broken", "leaks", "no leak found", "inconclusive"]
    because: str
    headline: str
    evaluation: str
    cell: str | None
    by_threat_model: dict[str, ThreatModelFigures]
    leak: float | None
    severity: Severity | None
    cheapest_break: BoardBreak | None
    utility: BoardUtility | None
    cost: BoardCost | None
    key_space_bits: float | None
    effective_bits: float | None
    origin: dict[str, Any] | None
    versions: dict[str, str | None]
    seed: int
    profile: str
    command: str
    evaluations: list[str]
    measured_at: str


class PaperFigures(TypedDict):
    verdict: Literal["robust", "not robust"] | None
    attack: str
    ssim: float | None


class PaperBoardRow(TypedDict):
    scheme: dict[str, Any]
    title: str
    by_threat_model: dict[str, PaperFigures]
    training: bool
    testing: bool
    classification: Literal["High", "Low"]
    cost: Literal["High", "Low"]


class BoardDataset(TypedDict):
    dataset: str
    dataset_sha256: str
    evaluations: int
    profiles: list[str]


class Board(TypedDict):
    rows: list[BoardRow]
    paper: list[PaperBoardRow]
    dataset: str | None
    dataset_sha256: str | None
    profiles: list[str]
    datasets: list[BoardDataset]
    profile: str | None
    threat_model: str | None
    rules_version: int
    pending: int


class AccountCreated(TypedDict):
    id: str
    name: str
    scopes: list[Literal["encrypt", "keys", "keys:export", "evaluate", "read", "admin"]]
    created_at: str
    revoked_at: str | None
    max_cost_core_hours: float | None
    token: str


class ComponentHealth(TypedDict):
    ok: bool
    detail: str


class Readiness(TypedDict):
    status: Literal["ok", "not ready"]
    parts: dict[str, ComponentHealth]
