"""What a caller sends and sees of evaluations."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from unveil.app.db.job_states import Status
from unveil.app.keys.schemas import KeyOut
from unveil.models.catalog import SsimMode
from unveil.models.core.profiles import Profile

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")


def _require_single_line(text: str) -> str:
    if _CONTROL_CHARACTERS.search(text):
        raise ValueError("must be one line of printable text")
    return text


SingleLineText = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_require_single_line)]


class Entry(BaseModel):
    """A name, and settings flat beside it."""

    model_config = ConfigDict(extra="allow")

    name: SingleLineText

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class SchemeEntry(Entry):
    key_id: str | None = Field(None, description="Use this key of yours; else keys are drawn from the seed")
    dataset: str | None = Field(None, description="Scheme `external` only: your upload of protected images")
    # Told in the settings, and taken so that they can be ordered again as they are.
    dataset_name: str | None = Field(None, description="What the upload was called when it was ordered, or left out")


class EvaluationCreate(BaseModel):
    """Every scheme is run under every attack. A profile fills in the settings that an entry leaves out."""

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
    schemes: list[SchemeEntry] = Field(min_length=1, max_length=32)
    attacks: list[Entry] = Field(min_length=1, max_length=32, description="`none` is added where it is missing")
    dataset: SingleLineText | None = Field(
        None, description="A name or an id of GET /datasets; not needed where every scheme is `external`"
    )
    public_dataset: SingleLineText | None = Field(
        None,
        description="The attacker's own images; else, or where it is `dataset` itself, half of the training images",
    )
    profile: Profile = Field("quick", description="smoke: seconds, quick: minutes, paper: the paper's settings")
    seed: int = Field(0, strict=True, ge=0, lt=2**31)
    samples: int = Field(8, strict=True, ge=0, le=64, description="Image triples to store for each cell")
    keys: int = Field(
        3, strict=True, ge=1, le=64, description="Independent keys a scheme, for attacks that need no training"
    )
    utility: bool = Field(False, strict=True, description="Also measure what a classifier loses")
    ssim_mode: SsimMode = "rgb7"
    # Told in the settings, and taken so that they can be ordered again as they are.
    dataset_name: str | None = Field(None, description="What `dataset` was called when it was ordered, or left out")
    public_dataset_name: str | None = Field(None, description="The same of `public_dataset`")
    training_images: int | None = Field(None, strict=True, description="As the profile takes them, or left out")
    test_images: int | None = Field(None, strict=True, description="As the profile takes them, or left out")


class ProgressOut(BaseModel):
    done: int = Field(description="Cells that succeeded, failed or do not apply; not those that were cancelled")
    total: int
    fraction: float = Field(ge=0, le=1, description="Never falls; cells that train networks weigh more")
    eta_s: float | None = Field(description="Null while nothing tells how long what is left takes")
    phase: str | None = Field(examples=["itn on tanaka, epoch 4 of 20", "training tn-gan key, epoch 3 of 10"])


class VerdictOut(BaseModel):
    scheme: dict[str, Any]
    verdict: Literal["broken", "leaks", "no leak found", "inconclusive"]
    because: str = Field(examples=["key-recovery found the exact key from 64 ciphertexts"])
    worst_attack: str | None
    paper: dict[str, str] | None = Field(description="The paper's own verdicts, by attack")


class ErrorOut(BaseModel):
    code: str = Field(examples=["dataset_missing"])
    detail: str


class ResultOut(BaseModel):
    """The figures of a finished cell."""

    model_config = ConfigDict(extra="allow")

    ssim: dict[str, Any] | None = None
    psnr: dict[str, Any] | None = None
    identification: dict[str, Any] | None = None
    key_agreement: dict[str, Any] | None = None
    key_space_bits: float | None = None
    paper_ssim: float | None = None
    controls: dict[str, str] | None = None
    recogniser: dict[str, float] | None = Field(
        None, description="With `utility`: how often a classifier of plain images names the class of the reconstruction"
    )
    verdict: str
    seconds: float
    device: str
    notes: list[str] = []


class SampleOut(BaseModel):
    index: int
    ssim: float | None
    plain: str | None
    protected: str
    reconstructed: str


class CellOut(BaseModel):
    id: str
    scheme: dict[str, Any]
    attack: dict[str, Any]
    threat_model: str
    status: Status
    progress: float
    phase: str | None
    attempt: int = Field(description="How many workers have taken it so far")
    started_at: datetime | None
    finished_at: datetime | None
    error: ErrorOut | None
    reason: str | None = Field(description="Why the pair cannot be run (status not_applicable)")
    result: ResultOut | None
    samples: list[SampleOut]
    links: dict[str, str]


class RateOut(BaseModel):
    """A share of the test images, with its 95 % interval."""

    top1: float
    ci_low: float
    ci_high: float
    n: int


class DropOut(BaseModel):
    """Points of accuracy lost on the same test images, with the 95 % interval."""

    points: float
    ci_low: float
    ci_high: float


class AvailabilityOut(BaseModel):
    available: bool | None = Field(description="null: undecided, as where it sees nothing of plain images either")
    reason: str = Field(description="Why, or why not")


class CostOut(BaseModel):
    level: Literal["High", "Low"] | None = Field(description="High: a network protects; Low: a key and arithmetic")
    images_per_second: float | None
    parameters: int | None = Field(description="Weights of the network that protects")


class UtilityResultOut(BaseModel):
    """What a classifier loses by the protection, and what protecting costs."""

    model_config = ConfigDict(extra="allow")

    plain: RateOut
    protected: RateOut
    drop: DropOut
    chance: float
    classification: Literal["High", "Low"] | None = Field(
        description="High: a drop of at most 3 points; null: undecided, where the plain classifier sees nothing"
    )
    training: AvailabilityOut
    testing: AvailabilityOut
    cost: CostOut
    seconds: float
    device: str
    notes: list[str] = []


class UtilityOut(BaseModel):
    """The utility of one scheme, measured as a job beside the cells."""

    id: str
    scheme: dict[str, Any]
    status: Status
    progress: float
    phase: str | None
    error: ErrorOut | None
    reason: str | None = Field(description="Why it cannot be measured (status not_applicable)")
    result: UtilityResultOut | None
    links: dict[str, str]


class EvaluationSummary(BaseModel):
    """An evaluation in a list."""

    id: str
    name: str
    status: Status
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: ProgressOut
    verdicts: list[VerdictOut]
    links: dict[str, str]


class EvaluationOut(EvaluationSummary):
    keys: list[KeyOut] = Field(
        description="Trained for it, and waited for by their cells. They are yours, and stay when it is deleted"
    )
    cells: list[CellOut]
    utility: list[UtilityOut] = Field(description="One a scheme, where it was ordered")
    settings: dict[str, Any] = Field(
        description="Every resolved setting: order this again and get the same. `training_images`, `test_images`: "
        "so many, the first of each split, are taken; null: all"
    )
    versions: dict[str, str | None]
