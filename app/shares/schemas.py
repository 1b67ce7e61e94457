"""Share links as their owner sees them."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class ShareCreate(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"expires_in_days": 30, "images": False}]}
    )

    expires_in_days: int = Field(30, strict=True, ge=1, le=365)
    images: bool = Field(True, strict=True, description="false: the pages and reports behind the link hold no image")


class ShareOut(BaseModel):
    """A share link, without its secret."""

    id: str = Field(examples=["share_0197f3c2a5d17a3b8c4d5e6f708192a3"])
    created_at: datetime
    expires_at: datetime
    images: bool


class ShareCreated(ShareOut):
    url: str = Field(
        description="Path of the link on this service. Shown this once; only a keyed hash is stored",
        examples=["/shared/Jc1x9mVtB0n5cR2oQm7uJx4qkS6yW8eZ3hA1dF5gL0M"],
    )


class ShareList(BaseModel):
    items: list[ShareOut]
