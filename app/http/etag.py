"""Entity tags: a caller that polls is told in a few bytes that nothing has changed."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import Header
from pydantic import BaseModel

IfNoneMatch = Annotated[str | None, Header(description="The ETag of an earlier answer: 304 while it is still true")]


def etag_for(body: BaseModel) -> str:
    """Of what has no version of its own."""
    return f'W/"{hashlib.sha256(body.model_dump_json().encode()).hexdigest()[:32]}"'


def matches(if_none_match: str | None, etag: str) -> bool:
    """Weak comparison (RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    client_tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in client_tags or etag.removeprefix("W/") in client_tags
