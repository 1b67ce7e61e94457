"""A request whose multipart form must be whole: what is cut off is refused, instead of taken without its last part."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from python_multipart.multipart import parse_options_header
from starlette.formparsers import MultiPartException
from starlette.requests import Request

_TAIL = 4096  # closing boundary and what may follow it
_CHARSETS = (b"utf-8", b"utf8", b"us-ascii")  # Python knows more, and some decode nothing or take very long


class WholeForm(Request):
    async def stream(self) -> AsyncGenerator[bytes, None]:
        kind, options = parse_options_header(self.headers.get("content-type"))
        is_form = kind == b"multipart/form-data"
        if is_form and options.get(b"charset", b"utf-8").lower() not in _CHARSETS:
            raise MultiPartException("forms are read as UTF-8; name no other charset")
        tail = b""
        async for chunk in super().stream():
            tail = (tail + chunk)[-_TAIL:]
            yield chunk
        if is_form and b"--" + options.get(b"boundary", b"") + b"--" not in tail:
            raise MultiPartException("the form is cut off: its closing boundary is missing")
