"""What comes in is read strictly: a multipart form that is cut off, or an object in JSON that names something twice, is
refused, instead of taken without its last part, or without what was said first.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

_TAIL_BYTES = 4096  # closing boundary and what may follow it
_CHARSETS = (b"utf-8", b"utf8", b"us-ascii")  # Python knows more, and some decode nothing or take very long


class DuplicateKeyError(ValueError):
    """An object in JSON names something twice."""


def loads_unique(text: str | bytes) -> Any:
    """As json.loads. Raises NamedTwice too."""
    return json.loads(text, object_pairs_hook=_reject_duplicate_keys)


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise DuplicateKeyError(f"an object names {json.dumps(name)} twice; send it once")
    return mapping


class StrictRequest(Request):
    async def json(self) -> Any:
        try:
            return loads_unique(await self.body())
        except DuplicateKeyError as error:
            raise HTTPException(400, str(error)) from None  # what else is raised here, FastAPI says in words of its own

    async def stream(self) -> AsyncGenerator[bytes, None]:
        kind, options = parse_options_header(self.headers.get("content-type"))
        is_form = kind == b"multipart/form-data"
        if is_form and options.get(b"charset", b"utf-8").lower() not in _CHARSETS:
            raise MultiPartException("forms are read as UTF-8; name no other charset")
        tail = b""
        async for chunk in super().stream():
            tail = (tail + chunk)[-_TAIL_BYTES:]
            yield chunk
        if is_form and b"--" + options.get(b"boundary", b"") + b"--" not in tail:
            raise MultiPartException("the form is cut off: its closing boundary is missing")
