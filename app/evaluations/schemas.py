"""Bodies of requests and answers of `/evaluations`; their parts are in `unveil.app.report.evaluation`."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from unveil.app.db.job_states import Status
from unveil.app.keys.schemas import KeyOut
from unveil.app.report.evaluation import Cell, EvaluationVerdict, Progress, UtilityJob
from unveil.models.catalog import SsimMode
from unveil.models.core.profiles import PROFILE_KEYS, Profile

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_CHARACTERS_IN_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def _require_single_line(text: str) -> str:
    if _CONTROL_CHARACTERS.search(text):
        raise ValueError("must be one line of printable text")
    return text


def _require_tag(tag: str) -> str:
    tag = _require_single_line(tag).strip()
    if not tag or "," in tag:
        raise ValueError("must hold text and no comma, which separates tags")
    return tag


def _require_lines(text: str) -> str:
    text = text.replace("\r\n", "\n")
    if _CONTROL_CHARACTERS_IN_LINES.search(text):
        raise ValueError("must be printable text; line breaks and tabs are allowed")
    return text.strip()


def _drop_duplicates(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


SingleLineText = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_require_single_line)]
Tag = Annotated[str, Field(min_length=1, max_length=50), AfterValidator(_require_tag)]
Tags = Annotated[list[Tag], Field(max_length=20), AfterValidator(_drop_duplicates)]
Notes = Annotated[str, Field(max_length=10_000), AfterValidator(_require_lines)]


class Entry(BaseModel):
    """A name, with settings as further fields beside it."""

    model_config = ConfigDict(extra="allow")

    name: SingleLineText

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class SchemeEntry(Entry):
    key_id: str | None = Field(None, description="A key of the account; left out: keys are derived from the seed")
    dataset: str | None = Field(None, description="Scheme `external` only: your upload of protected images")
    # Accepted so that the settings of an evaluation can be posted again unchanged.
    dataset_name: str | None = Field(None, description="The name of the upload; may be left out")


class EvaluationCreate(BaseModel):
    """Every scheme runs under every attack. The profile fills in the settings that an entry leaves out."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "audit 1",
                    "schemes": [{"name": "pixelwise", "key_mode": "same"}, {"name": "tanaka"}],
                    "attacks": [{"name": "none"}, {"name": "fr"}, {"name": "brute-force"}],
                    "dataset": "sample",
                    "profile": "smoke",
                    "seed": 0,
                    "samples": 4,
                    "keys": 2,
                }
            ]
        },
    )

    name: SingleLineText = "evaluation"
    schemes: list[SchemeEntry] = Field(min_length=1, max_length=128)
    attacks: list[Entry] = Field(
        min_length=1, max_length=128, description="Attacks that the profile requires and that train nothing are added"
    )
    dataset: SingleLineText | None = Field(
        None, description="A name or an id from GET /datasets; not needed if every scheme is `external`"
    )
    public_dataset: SingleLineText | None = Field(
        None,
        description="Dataset that the attacker owns; by default, or if equal to `dataset`: half of the training images",
    )
    profile: Profile = Field("quick", description="smoke: seconds; quick: minutes; paper: the settings of the paper")
    seed: int = Field(0, strict=True, ge=0, lt=2**31)
    samples: int = Field(8, strict=True, ge=0, le=64, description="Image triples to store for each cell")
    keys: int = Field(
        PROFILE_KEYS,
        strict=True,
        ge=1,
        le=64,
        description="Number of keys drawn for each scheme, for attacks that train no network",
    )
    utility: bool = Field(
        False, strict=True, description="Also measure how much accuracy a classifier loses on protected images"
    )
    ssim_mode: SsimMode = "rgb7"
    # Accepted so that the settings of an evaluation can be posted again unchanged.
    dataset_name: str | None = Field(None, description="The name of `dataset`; may be left out")
    public_dataset_name: str | None = Field(None, description="The name of `public_dataset`; may be left out")
    training_images: int | None = Field(None, strict=True, description="As in the profile; may be left out")
    test_images: int | None = Field(None, strict=True, description="As in the profile; may be left out")


class CostQuotaOut(BaseModel):
    """Core hours of the account."""

    limit: float = Field(description="What its jobs may use in 30 days", examples=[1000])
    used: float = Field(description="What they used in the last 30 days", examples=[12.5])
    reserved: float = Field(description="What its queued and running jobs are estimated to need still", examples=[0.4])
    left: float = Field(examples=[987.1])


class EvaluationEstimate(BaseModel):
    """What a request would run and cost."""

    cells: int = Field(description="Cells that would run", examples=[9])
    not_applicable: int = Field(description="Requested pairs of scheme and attack that cannot run", examples=[1])
    trained_keys: int = Field(description="Keys that would be trained", examples=[0])
    estimated_core_hours: float = Field(description="For a CPU, accurate to a factor of three", examples=[0.05])
    quota: CostQuotaOut


class EvaluationUpdate(BaseModel):
    """What to change; a field that is null or left out stays as it is. The last edit of a field wins."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"name": "audit 1, final", "tags": ["paper"], "notes": "For section 4."}],
        },
    )

    name: SingleLineText | None = None
    tags: Tags | None = Field(None, description="The whole list: tags that it lacks are removed")
    notes: Notes | None = Field(None, description="Plain text, for the page and the report; empty removes them")

    @model_validator(mode="after")
    def _require_change(self) -> Self:
        if self.name is None and self.tags is None and self.notes is None:
            raise ValueError("names no change; give name, tags or notes")
        return self


class EvaluationSummary(BaseModel):
    """An evaluation in a list."""

    id: str
    name: str
    tags: list[str] = Field(examples=[["paper"]])
    notes: str
    status: Status
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: Progress
    verdicts: list[EvaluationVerdict]
    links: dict[str, str]


class EvaluationOut(EvaluationSummary):
    keys: list[KeyOut] = Field(
        description="Keys trained for the evaluation; cells wait for their key. "
        "They belong to the account and outlive the evaluation"
    )
    cells: list[Cell]
    utility: list[UtilityJob] = Field(description="One job for each scheme, if utility was requested")
    settings: dict[str, Any] = Field(
        description="All resolved settings: post them again to repeat the evaluation. "
        "`training_images`, `test_images`: how many of each split are used, from its beginning; null: all"
    )
    versions: dict[str, str | None]
    estimated_core_hours: float = Field(
        description="Estimate at the time of the request, for a CPU, accurate to a factor of three", examples=[0.05]
    )


class CandidateOut(BaseModel):
    number: int = Field(description="Attacked images first, then the distractors of the gallery")
    distance: float | None = Field(description="1 - similarity by the comparison; null outside the gallery")
    is_own: bool = Field(description="The original of the image, or a near-duplicate of it")
    image: str | None = Field(description="Path of the original; null where it is not stored")


class LineUpOut(BaseModel):
    comparison: str = Field(examples=["dihedral-24"], description="The comparison that identifies most images")
    candidates: list[CandidateOut] = Field(description="The five most similar originals, most similar first")
    own: CandidateOut = Field(description="The original; the distance is that of a near-duplicate if that is nearer")


class AttackedImageOut(BaseModel):
    """One attacked image under the first key. Paths are null where the image is not stored."""

    index: int
    ssim: float | None
    rank: float | None = Field(description="Of the original among the gallery by similarity; 1 identifies the image")
    is_leaking: bool
    plain: str | None
    protected: str | None
    reconstructed: str | None
    line_up: LineUpOut | None
