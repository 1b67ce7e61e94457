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
