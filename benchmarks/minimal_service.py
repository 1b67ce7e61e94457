"""The least that can stand around protecting images where one process serves HTTP and others do the work.

Sealed images go there by way of Redis and come back sealed, as in the product. There is no account, no limit, no key
kept, no check of the form, no FastAPI, no Celery and no database.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any
from urllib.request import urlopen

import numpy as np
import pybase64
import redis
import redis.asyncio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from unveil.app.broker import RpcMessage
from unveil.app.db.ids import new_id
from unveil.models.catalog import make_scheme, new_secret
from unveil.models.core.images import to_png
from unveil.worker.encryption import codec

_REDIS, _KEY = "UNVEIL_LEAST_REDIS", "UNVEIL_LEAST_KEY"
_REQUESTS = "least:requests"


@contextmanager
def serving(redis_url: str, workers: int) -> Iterator[int]:
    """A service that takes a form of PNGs anywhere; its port on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {_REDIS: redis_url, _KEY: AESGCM.generate_key(256).hex()}
    command = [sys.executable, "-m", "uvicorn", "benchmarks.least:app", f"--port={port}", "--log-level=critical"]
    context = get_context("spawn")
    at_work = [context.Process(target=_work, args=(environment,), daemon=True) for _ in range(workers)]
    service = subprocess.Popen(command, env={**os.environ, **environment})
    try:
        for worker in at_work:
            worker.start()
        until = time.monotonic() + 60
        while not _answers(port):
            if time.monotonic() > until or service.poll() is not None:
                raise RuntimeError("the least service does not start")
            time.sleep(0.1)
        yield port
    finally:
        service.terminate()
        for worker in at_work:
            worker.terminate()
        service.wait()


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/", timeout=5):
            return True
    except OSError:
        return False


class _Sealed:
    def __init__(self, environment: Any) -> None:
        self.cipher = AESGCM(bytes.fromhex(environment[_KEY]))

    def pack(self, parcel: RpcMessage) -> bytes:
        nonce = os.urandom(12)
        return nonce + self.cipher.encrypt(nonce, parcel.pack(), None)

    def unpack(self, raw: bytes) -> RpcMessage:
        return RpcMessage.unpack(self.cipher.decrypt(raw[:12], raw[12:], None))


def _work(environment: dict[str, str]) -> None:
    client, sealed, scheme = (
        redis.Redis.from_url(environment[_REDIS], socket_timeout=None),
        _Sealed(environment),
        make_scheme("tanaka", {}),
    )
    while True:
        taken: Any = client.brpop([_REQUESTS])
        request = sealed.unpack(taken[1])
        files = [codec.inspect(data, max_pixels=16_000_000) for data in request.attachments]
        images = np.stack([codec.decode(file).pixels for file in files])
        protected = scheme.encrypt(images, scheme.key(new_secret(), *images.shape[1:3]))
        client.rpush(request.metadata["id"], sealed.pack(RpcMessage({}, [to_png(image) for image in protected])))


Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
_client: redis.asyncio.Redis | None = None


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """A form of PNGs -> JSON with as many PNGs in base64."""
    global _client  # noqa: PLW0603 - of the process that serves
    if scope["type"] != "http":
        return
    if _client is None:
        _client = redis.asyncio.Redis.from_url(os.environ[_REDIS], socket_timeout=None)
    body = await _body(receive) if scope["method"] == "POST" else b""
    answer = await _protected(_client, body) if body else b"{}"
    length = str(len(answer)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": answer})


async def _body(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def _protected(client: redis.asyncio.Redis, body: bytes) -> bytes:
    sealed, id = _Sealed(os.environ), new_id("work")
    boundary = body[: body.index(b"\r\n")]
    files = [part.partition(b"\r\n\r\n")[2][:-2] for part in body.split(boundary) if b"image/png" in part[:200]]
    await client.lpush(_REQUESTS, sealed.pack(RpcMessage({"id": id}, files)))
    answer: Any = await client.blpop([id])
    pngs = [pybase64.b64encode(png) for png in sealed.unpack(answer[1]).attachments]
    return b'{"images":["' + b'","'.join(pngs) + b'"]}'
