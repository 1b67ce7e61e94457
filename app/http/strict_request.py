"""A request that rejects a truncated multipart form, which the parser would accept without its last part."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from python_multipart.multipart import parse_options_header
from starlette.formparsers import MultiPartException
from starlette.requests import Request

_TAIL_BYTES = 4096  # holds the closing boundary and what may follow it
_CHARSETS = (b"utf-8", b"utf8", b"us-ascii")  # some of Python's other codecs decode nothing or are very slow


class StrictRequest(Request):
    async def stream(self) -> AsyncGenerator[bytes, None]:
        media_type, options = parse_options_header(self.headers.get("content-type"))
        is_form = media_type == b"multipart/form-data"
        if is_form and options.get(b"charset", b"utf-8").lower() not in _CHARSETS:
            raise MultiPartException("forms must be UTF-8; do not declare another charset")
        tail = b""
        async for chunk in super().stream():
            tail = (tail + chunk)[-_TAIL_BYTES:]
            yield chunk
        if is_form and b"--" + options.get(b"boundary", b"") + b"--" not in tail:
            raise MultiPartException("the form is truncated: its closing boundary is missing")
