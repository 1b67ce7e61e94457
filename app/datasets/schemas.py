"""Datasets as callers see them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

DatasetKind = Literal["plain", "protected", "reconstructed"]


class DatasetUpload(BaseModel):
    """What an upload says besides its files."""

    name: str
    kind: DatasetKind
    size: int
    seed: int


class DatasetOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str = Field(
        description="What an evaluation's `dataset` takes", examples=["ds_0197f3c2a5d17a3b8c4d5e6f708192a3"]
    )
    name: str = Field(examples=["holiday photographs"])
    kind: DatasetKind = "plain"
    train: int = Field(validation_alias=AliasChoices("train", "train_count"), examples=[400])
    test: int = Field(validation_alias=AliasChoices("test", "test_count"), examples=[100])
    width: int = Field(examples=[96])
    height: int = Field(examples=[96])
    classes: list[str] = Field(examples=[["cat", "dog"]])
    available: bool = Field(True, description="False: its files are not here yet; `note` says where they go")
    note: str = Field("", description="Conversions of its images and skipped files, each counted")
    has_originals: bool = Field(False, description="A protected set whose plain images are known")
    bytes: int | None = Field(
        None, validation_alias=AliasChoices("bytes", "pixel_bytes"), description="Stored size; null for built-in sets"
    )
    created_at: datetime | None = Field(None, description="Null for built-in sets")
