"""Response bodies of `/schemes` and `/attacks`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class PaperResults(BaseModel):
    """The paper's results: mean SSIM (Table 1) and robustness (Table 2) by attack name."""

    ssim: dict[str, float] = Field(examples=[{"fr": 0.4646, "itn": 0.1715, "gan": 0.2688}])
    robust: dict[str, bool] = Field(examples=[{"fr": False, "itn": False, "gan": False}])


class SchemeVariant(BaseModel):
    params: dict[str, Any] = Field(description="Settings that choose this variant", examples=[{"key_mode": "same"}])
    key_per_image: bool
    key_space_bits: float | None = Field(
        description="log2 of the number of keys for one image of the asked size; null for networks", examples=[51471.0]
    )
    effective_bits: float | None = Field(
        description="log2 of the cost of an exhaustive search, at most the bits of the stored secret", examples=[256]
    )
    paper: PaperResults | None


class OriginOut(BaseModel):
    """Where the code comes from."""

    distribution: str = Field(description="The installed distribution, or the file of a plug-in", examples=["unveil"])
    version: str | None
    source_sha256: str = Field(description="Of the file, or of all Python files of a plug-in's package")


class SchemeOut(BaseModel):
    name: str = Field(examples=["pixelwise"])
    title: str
    source: str = Field(description="Where the scheme was published")
    summary: str
    trains: bool = Field(description="Whether its key is trained network weights")
    missing_part: str | None = Field(
        description="A trained part of the published scheme that this one lacks; the board has no row of such a scheme"
    )
    invertible: bool = Field(description="Whether it decrypts exactly")
    structure: str | None = Field(
        description="Structure of the scheme, which attacks use", examples=["BlockMap(side=4, unit='nibble')"]
    )
    ciphertext: dict[str, Any] = Field(
        description="`dtype`, `low`, `high` and `shape` of its output; clients receive its 8-bit view"
    )
    origin: OriginOut
    size_multiple: int = Field(description="Image sides are padded to multiples of this")
    parameters: dict[str, Any] = Field(description="JSON Schema of its settings")
    profiles: dict[str, dict[str, Any]] = Field(description="Settings that a profile fills in")
    variants: list[SchemeVariant] = Field(description="One for each choice of its enumerated settings")
    attacks: list[str] = Field(description="Attacks that can be run on it", examples=[["none", "fr"]])


class AttackOut(BaseModel):
    name: str = Field(examples=["fr"])
    title: str
    source: str
    summary: str
    threat_model: str = Field(description="Material that the attacker holds", examples=["ciphertext-only"])
    learned: bool = Field(description="Whether it trains a network")
    reads_upload: bool = Field(description="Whether it scores an upload of reconstructions instead of running here")
    takes: Literal["view", "ciphertext"] = Field(
        description="Whether it receives the 8-bit views of ciphertexts or the ciphertexts themselves"
    )
    takes_unknown_schemes: bool = Field(description="Whether it runs on ciphertexts without a guess at their scheme")
    origin: OriginOut
    parameters: dict[str, Any] = Field(description="JSON Schema of its settings")
    profiles: dict[str, dict[str, Any]] = Field(description="Settings that a profile fills in")
    applies_to: list[str]
    not_applicable: dict[str, str] = Field(description="Scheme name to the reason")


class SchemeList(BaseModel):
    items: list[SchemeOut]


class AttackList(BaseModel):
    items: list[AttackOut]


class PluginOut(BaseModel):
    name: str = Field(description="`vendor/name`; of a failed import, the file, module or entry point")
    kind: Literal["scheme", "attack", "metric"] | None
    distribution: str | None
    version: str | None
    source_sha256: str | None
    status: Literal["loaded", "failed"]
    error: str | None = Field(description="Why it failed")


class PluginList(BaseModel):
    plugins: list[PluginOut]
