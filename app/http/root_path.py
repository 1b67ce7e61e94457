"""The service below a path of a reverse proxy (`UNVEIL_ROOT_PATH`), which may strip the path or pass it on.

All code of the service writes its own paths as if it stood at `/`. This middleware alone adds the path of the proxy: to
`Location`, to the links of JSON answers, and to the addresses in pages and scripts.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Fields of JSON responses that hold paths of the service. Other strings, such as JSON pointers, may begin with `/` too.
_LINK = re.compile(rb'("(?:self|cancel|events|report|curve|scores|plain|protected|reconstructed|url)":\s*")(/)')
_PAGE_ADDRESS = re.compile(rb'(\s(?:href|src|action|formaction)=["\'])(/)(?!/)')
# In scripts: a string that begins with a page, a route or a place on the overview, or the overview as the value of a
# property.
_SCRIPT_ADDRESS = re.compile(
    rb'(["\'`](?=/(?:#|(?:dashboard|datasets|decrypt|encrypt|evaluations|keys|static)\b))|(?<=: )"(?=/"))(/)'
)
_ADDRESSES = {b"application/json": _LINK, b"text/html": _PAGE_ADDRESS, b"text/javascript": _SCRIPT_ADDRESS}


class RootPathMiddleware:
    """root_path: begins with a slash and does not end with one."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(self._root_path) if self._is_below(scope["path"]) else scope["path"]
        # app_root_path: Starlette puts it before the path of `request.base_url`, and routes by `path` alone.
        inner = {**scope, "path": path or "/", "app_root_path": self._root_path}
        inner.pop("raw_path", None)
        await self.app(inner, receive, _Rewriter(send, self._add_root_path).send)

    def _is_below(self, path: str) -> bool:
        return path == self._root_path or path.startswith(f"{self._root_path}/")

    def _add_root_path(self, path: str) -> str:
        is_own_path = path.startswith("/") and not path.startswith("//") and not self._is_below(path)
        return self._root_path + path if is_own_path else path


class _Rewriter:
    """Sends a response on, its addresses rewritten. Holds bodies back that may contain some; streams pass."""

    def __init__(self, send: Send, add_root_path: Callable[[str], str]) -> None:
        self._send = send
        self._add_root_path = add_root_path
        self._start: Message | None = None  # of a body that is held back
        self._pattern: re.Pattern[bytes] | None = None
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [self._rewrite_header(*header) for header in message["headers"]]
            message = {**message, "headers": headers}
            media_type = dict(headers).get(b"content-type", b"").partition(b";")[0].strip()
            self._pattern = _ADDRESSES.get(media_type)
            if self._pattern is not None:
                self._start = message
                return
        elif message["type"] == "http.response.body" and self._start is not None and self._pattern is not None:
            self._body += message.get("body", b"")
            if message.get("more_body"):
                return
            body = self._pattern.sub(self._rewrite_address, bytes(self._body))
            is_head = not body  # HEAD has no body, and keeps the headers of GET
            headers = [
                (name, str(len(body)).encode() if name == b"content-length" and not is_head else value)
                for name, value in self._start["headers"]
            ]
            start, self._start = {**self._start, "headers": headers}, None
            await self._send(start)
            message = {"type": "http.response.body", "body": body}
        await self._send(message)

    def _rewrite_header(self, name: bytes, value: bytes) -> tuple[bytes, bytes]:
        if name.lower() != b"location":
            return name, value
        return name, self._add_root_path(value.decode("latin-1")).encode("latin-1")

    def _rewrite_address(self, match: re.Match[bytes]) -> bytes:
        return match[1] + self._add_root_path("/").encode()
