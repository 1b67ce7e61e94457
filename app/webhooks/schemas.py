"""Webhooks and their deliveries as their owner sees them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

WebhookEvent = Literal["evaluation.finished"]
DeliveryStatus = Literal["pending", "delivered", "failed"]


class WebhookCreate(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"url": "https://ci.example/unveil", "events": ["evaluation.finished"]}]},
    )

    url: str = Field(
        min_length=1,
        max_length=2000,
        description="https; http only where the operator allows the network of the receiver",
        examples=["https://ci.example/unveil"],
    )
    events: Annotated[list[WebhookEvent], Field(min_length=1, max_length=1)] = ["evaluation.finished"]


class WebhookOut(BaseModel):
    """A webhook, without its secret."""

    id: str = Field(examples=["webhook_0197f3c2a5d17a3b8c4d5e6f708192a3"])
    url: str = Field(examples=["https://ci.example/unveil"])
    events: list[WebhookEvent]
    created_at: datetime


class WebhookCreated(WebhookOut):
    secret: str = Field(
        description="Key of the signatures, `whsec_` and Base64. Shown this once",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwvVq0pZ0r2uE="],
    )


class WebhookList(BaseModel):
    items: list[WebhookOut]


class DeliveryOut(BaseModel):
    """One event sent to one webhook, in all its attempts."""

    id: str = Field(examples=["delivery_0197f3c2a5d17a3b8c4d5e6f708192a3"])
    event: WebhookEvent
    evaluation: str = Field(examples=["ev_0197f3c2a5d17a3b8c4d5e6f708192a3"])
    status: DeliveryStatus
    attempts: int
    response_status: int | None = Field(description="HTTP status of the last response; null without one")
    error: str = Field(description="Why the last attempt failed; empty if it did not", examples=["HTTP status 500"])
    created_at: datetime
    next_attempt_at: datetime | None = Field(description="null: the delivery has ended")
    finished_at: datetime | None
