"""Entity tags: a client that polls gets 304 without a body while nothing has changed."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import Header
from pydantic import BaseModel

IfNoneMatch = Annotated[str | None, Header(description="ETag of an earlier response; gives 304 while it is current")]


def etag_for(body: BaseModel) -> str:
    """A hash of the body, for resources without a version number."""
    return f'W/"{hashlib.sha256(body.model_dump_json().encode()).hexdigest()[:32]}"'


def matches(if_none_match: str | None, etag: str) -> bool:
    """Weak comparison (RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    client_tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in client_tags or etag.removeprefix("W/") in client_tags
