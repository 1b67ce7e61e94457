"""The authenticated caller of a request, and the scopes of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Scope = Literal["encrypt", "keys", "keys:export", "evaluate", "read", "admin"]

SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True)
class Principal:
    account_id: str
    name: str
    scopes: frozenset[str]
