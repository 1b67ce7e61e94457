"""Responses of /encrypt and /decrypt."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class ImageOut(BaseModel):
    index: int = Field(examples=[0])
    filename: str = Field(examples=["a.png"])
    key_id: str = Field(examples=["key_0197f3c2a5d17a3b8c4d5e6f708192a3"])
    width: int = Field(examples=[96])
    height: int = Field(examples=[96])
    original_width: int = Field(description="Before padding", examples=[96])
    original_height: int = Field(examples=[96])
    media_type: Literal["image/png"] = "image/png"
    data: str = Field(description="The PNG in base64", examples=["iVBORw0KGgo="])
    notes: list[str] = Field(description="Conversions applied to the image", examples=[["grey became RGB"]])


class TransformOut(BaseModel):
    scheme: str = Field(examples=["pixelwise"])
    params: dict[str, Any] = Field(examples=[{"key_mode": "same"}])
    images: list[ImageOut]
