"""Keys as callers see them: never the secret."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_PERMUTATION: list[Any] = [*range(95, -1, -1)]


class KeyCreate(BaseModel):
    """Without `material` a key is drawn at random; with it, the given key is stored.

    A key of a scheme with `trains` is a network, and is trained: its `params` name, besides settings of the scheme, the
    `dataset` to train on, the `profile` that fills in the settings left out (default quick) and the `seed`. Without
    one, a seed is drawn and never returned: the seed, the dataset and the settings reproduce the key.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"scheme": "pixelwise", "params": {"key_mode": "same"}},
                {
                    "scheme": "tanaka",
                    "params": {},
                    "material": {"permutation": _PERMUTATION, "reversed": [*[0, 1] * 48]},
                },
                {"scheme": "tn-model", "params": {"profile": "smoke", "dataset": "sample", "seed": 0}},
            ]
        },
    )

    scheme: str = Field(max_length=64, examples=["tanaka"])
    params: dict[str, Any] = Field(default_factory=dict, examples=[{"variant": "paper"}])
    material: dict[str, Any] | None = Field(None, description="The explicit key, in the form of the scheme")


class JobError(BaseModel):
    code: str
    detail: str


class KeyOut(BaseModel):
    id: str = Field(examples=["key_0197f3c2a5d17a3b8c4d5e6f708192a3"])
    scheme: str = Field(examples=["tanaka"])
    params: dict[str, Any] = Field(examples=[{"variant": "paper", "block": 4}])
    status: Literal["ready", "training", "cancelling", "failed", "cancelled"]
    created_at: datetime
    uses: int = Field(description="Number of images encrypted or decrypted with the key", examples=[0])
    width: int | None = Field(None, description="Of the only image size that explicit maps fit")
    height: int | None = None
    key_space_bits: float | None = Field(
        description="log2 of the number of keys for one image of the size asked for; null for networks",
        examples=[594.277],
    )
    effective_bits: float | None = Field(
        description="What a search really costs: never more than the 256 bits of a stored secret; of a trained key "
        "what its seed is worth: 256 bits if drawn, at most 53 if given, 0 with `audit_only`",
        examples=[256],
    )
    audit_only: bool = Field(
        False, description="Trained for an evaluation, whose settings name the seed: `/encrypt` refuses the key"
    )
    training: dict[str, Any] | None = Field(
        None,
        description="The request for the training of the key",
        examples=[{"profile": "quick", "dataset": "stl10", "seed": 0}],
    )
    provenance: dict[str, Any] | None = Field(None, description="How the key was trained: data, losses, versions")
    progress: float | None = Field(None, description="Of its training, 0 to 1")
    phase: str | None = Field(None, examples=["epoch 3 of 10"])
    error: JobError | None = None
    links: dict[str, str] = Field(examples=[{"self": "/keys/key_0197f3c2a5d17a3b8c4d5e6f708192a3"}])


class MaterialOut(BaseModel):
    id: str
    scheme: str
    params: dict[str, Any]
    material: dict[str, Any] = Field(description="The key, in the form that POST /keys accepts")
