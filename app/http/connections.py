"""The server's side of a connection: a request that arrives too slowly loses its connection.

`unveil serve` gives this protocol to uvicorn, whose own time-out covers idle connections between requests only.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from unveil.app.settings import get_settings

# Longer than clients and proxies keep an idle connection (httpx 5 s, most proxies 60 s): otherwise a request may arrive
# just when the server closes, and is lost.
KEEP_ALIVE_S = 75


class DeadlineProtocol(HttpToolsProtocol):
    """Closes a connection whose request head or body is not complete in time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_deadline(get_settings().request_head_timeout_s)

    def data_received(self, data: bytes) -> None:
        if self._deadline is None and self.cycle is not None and self.cycle.response_complete:
            self._set_deadline(get_settings().request_head_timeout_s)  # the next request of a kept connection
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._set_deadline(get_settings().request_body_timeout_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._clear_deadline()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        super().connection_lost(exc)

    def _set_deadline(self, timeout_s: float) -> None:
        self._clear_deadline()
        self._deadline = self.loop.call_later(timeout_s, self.transport.close)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
