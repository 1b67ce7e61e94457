"""Datasets as callers see them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

DatasetKind = Literal["plain", "protected", "reconstructed"]


class DatasetUpload(BaseModel):
    """The form fields of an upload besides its files."""

    name: str
    kind: DatasetKind
    size: int
    seed: int


class DatasetOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str = Field(
        description="The value for `dataset` in an evaluation", examples=["ds_0197f3c2a5d17a3b8c4d5e6f708192a3"]
    )
    name: str = Field(examples=["holiday photographs"])
    kind: DatasetKind = "plain"
    train: int = Field(validation_alias=AliasChoices("train", "train_count"), examples=[400])
    test: int = Field(validation_alias=AliasChoices("test", "test_count"), examples=[100])
    width: int = Field(examples=[96])
    height: int = Field(examples=[96])
    classes: list[str] = Field(examples=[["cat", "dog"]])
    available: bool = Field(True, description="False: its files are missing; `note` names the folder for them")
    note: str = Field("", description="Conversions of its images and skipped files, each counted")
    has_originals: bool = Field(False, description="Whether the plain images of a protected dataset were uploaded")
    bytes: int | None = Field(
        None, validation_alias=AliasChoices("bytes", "pixel_bytes"), description="Stored size; null for built-in sets"
    )
    created_at: datetime | None = Field(None, description="Null for built-in sets")
