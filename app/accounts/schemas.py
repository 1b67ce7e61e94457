"""Accounts as callers see them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from unveil.app.security.principal import Scope

_NAME_PATTERN = r"^\w([\w.@ -]*\w)?$"


def _check_name(name: str) -> str:
    """Replaces the pattern's error by a sentence."""
    if not re.fullmatch(_NAME_PATTERN.removesuffix("$"), name):
        raise ValueError(
            "must begin and end with a letter, digit or underscore, and hold only these, . @ - and spaces between them"
        )
    if name.startswith("acct_"):
        raise ValueError("must not begin with acct_, the prefix of account ids")
    return name


Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=100,
        json_schema_extra={"pattern": _NAME_PATTERN},
        description="Letters, digits, underscores, and between them . @ - and spaces",
        examples=["imaging-team"],
    ),
    AfterValidator(_check_name),
]
Scopes = Annotated[list[Scope], Field(min_length=1, max_length=6, examples=[["encrypt", "keys", "evaluate", "read"]])]


Quota = Annotated[
    float | None,
    Field(
        strict=True,
        ge=0,
        allow_inf_nan=False,
        description="Core hours that the jobs of the account may use in 30 days; null: the default of the service",
        examples=[100],
    ),
]


class AccountCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name
    scopes: Scopes
    max_cost_core_hours: Quota = None


class AccountUpdate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    max_cost_core_hours: Quota


class AccountOut(BaseModel):
    id: str = Field(examples=["acct_0197f3c2a5d17a3b8c4d5e6f708192a3"])
    name: str = Field(examples=["imaging-team"])
    scopes: list[Scope]
    created_at: datetime
    revoked_at: datetime | None = None
    max_cost_core_hours: Quota = None


class AccountCreated(AccountOut):
    token: str = Field(
        description="The bearer token, shown only once; the service stores a keyed hash",
        examples=["unveil_Jc1x9mVtB0n5cR2oQm7uJx4qkS6yW8eZ3hA1dF5gL0M"],
    )


class TokenOut(BaseModel):
    """A bearer token, without its secret."""

    id: str = Field(examples=["tok_0197f3c2a5d17a3b8c4d5e6f708192a3"])
    account: str = Field(description="Name of the account")
    label: str
    scopes: list[Scope]
    created_at: datetime
    revoked_at: datetime | None = None


class TokenCreated(TokenOut):
    token: str = Field(description="The bearer token. Shown this once; only a keyed hash is stored")
