"""An HTTP server that receives webhooks."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Receiver:
    url: str = ""
    port: int = 0
    statuses: list[int] = field(default_factory=list)  # of the next responses; then 200
    release: threading.Event = field(default_factory=threading.Event)  # responses wait for it
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)  # path, headers, body


@contextmanager
def receive(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    received = Receiver()
    received.release.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            received.release.wait()
            status = received.statuses.pop(0) if received.statuses else 200
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            """Not to standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        received.port = server.server_address[1]
        received.url = f"http://127.0.0.1:{received.port}/hook"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield received
        finally:
            received.release.set()
            server.shutdown()
            thread.join()
