"""Jobs of all accounts, as an administrator sees them: no images, keys or results."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from unveil.app.db.job_states import Status


class JobOut(BaseModel):
    """A cell of an evaluation, or the training of a key."""

    model_config = ConfigDict(from_attributes=True)

    id: str = Field(examples=["cell_0197f3c2a5d17a3b8c4d5e6f708192a3"])
    kind: Literal["cell", "key"]
    account: str = Field(description="Name of the account")
    evaluation_id: str | None
    scheme: str = Field(examples=["tanaka"])
    attack: str | None = Field(description="null for the training of a key", examples=["itn"])
    status: Status
    progress: float
    phase: str
    attempt: int
    worker: str | None = Field(description="The process that holds the lease: host/process id/random")
    started_at: datetime | None
    seconds_used: float = Field(description="In all attempts and time slices")
    estimated_core_hours: float = Field(description="Estimate at the time of the request, for a CPU")
