"""The only door to Celery and Redis.

Jobs: `ring` sends the id of a row to a worker; the row is the truth, the message a doorbell. Encryption: images wait
in Redis for at most the request's budget, sealed, and the answer comes back the same way; nothing of it is kept.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio
from celery import Celery
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kombu.connection import Connection
from kombu.messaging import Producer
from kombu.transport import memory

from unveil.app.db.heartbeats import ATTACK, ENCRYPT, OPS
from unveil.app.security.envelope import KeyRing
from unveil.app.settings import Settings

RUN_CELL = "unveil.worker.tasks.run_cell"
TRAIN_KEY = "unveil.worker.tasks.train_key"
TRANSFORM = "unveil.worker.tasks.transform"

_QUEUE_OF = {RUN_CELL: ATTACK, TRAIN_KEY: ATTACK, TRANSFORM: ENCRYPT}
QUEUES = (*dict.fromkeys(_QUEUE_OF.values()), OPS)

_SILENT_S = 5.0  # after which a client of Redis takes its connection for dead
_LOOK_S = 2.0  # one wait for an answer there


class NoWorker(Exception):
    """Nobody answered within the budget."""


def celery_app(settings: Settings) -> Celery:
    """The Celery application of service and workers alike (the service only writes what it would send)."""
    app = Celery("unveil", broker=settings.redis_url)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_routes={name: {"queue": queue} for name, queue in _QUEUE_OF.items()},
        broker_transport_options={
            # Far above any job's own time: a redelivery is the sweeper's business, not the broker's.
            "visibility_timeout": 14 * 24 * 3600,
            # A Redis that hangs is away, to the workers too.
            "socket_timeout": _SILENT_S,
            "socket_connect_timeout": _SILENT_S,
        },
        # An image or archive that takes for ever costs its process, and the worker starts another.
        task_annotations={TRANSFORM: {"time_limit": max(settings.encrypt_budget_s, settings.unpack_budget_s) + 30}},
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
    )
    return app


def ring(app: Celery, task: str, *ids: str) -> None:
    """Send one message for each id. Raises kombu.exceptions.OperationalError when the broker is away; the sweeper
    then rings again."""
    for id in ids:
        app.send_task(task, args=[id], retry=False)


def waiting(app: Celery, task: str) -> int:
    """How many messages of a task's queue no worker has taken. Raises kombu.exceptions.OperationalError."""
    with app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        channel = connection.default_channel
        try:
            return int(channel.queue_declare(_QUEUE_OF[task], passive=True).message_count)
        except channel.connection.client.channel_errors:  # Redis forgets an empty queue
            return 0


@dataclass(frozen=True)
class Parcel:
    """What travels between request and encryption worker: a JSON head and some byte strings."""

    head: dict[str, Any]
    parts: Sequence[bytes] = ()

    def pack(self) -> bytes:
        head = json.dumps(self.head, separators=(",", ":")).encode()
        sizes = struct.pack(f">II{len(self.parts)}Q", len(head), len(self.parts), *map(len, self.parts))
        return b"".join([sizes, head, *self.parts])

    @staticmethod
    def unpack(raw: bytes) -> Parcel:
        head_size, count = struct.unpack_from(">II", raw)
        sizes = struct.unpack_from(f">{count}Q", raw, 8)
        at = 8 + 8 * count
        head = json.loads(raw[at : at + head_size])
        at += head_size
        parts = []
        for size in sizes:
            parts.append(raw[at : at + size])
            at += size
        return Parcel(head, parts)


class Parcels:
    """Sealed parcels in Redis under an id, so that plain images never lie there in clear (nor in its log on disk)."""

    def __init__(self, ring: KeyRing) -> None:
        # Each process of the service and of the workers shares the ring; a request's parcels live for seconds.
        self._ring = ring

    def seal(self, parcel: Parcel, name: str) -> bytes:
        nonce = os.urandom(12)
        version = self._ring.current
        sealed = AESGCM(self._ring.masters[version]).encrypt(nonce, parcel.pack(), f"parcel/{name}".encode())
        return version.to_bytes(2, "big") + nonce + sealed

    def open(self, raw: bytes, name: str) -> Parcel:
        """Raises ValueError when it was not sealed under this ring and name."""
        try:
            key = self._ring.masters[int.from_bytes(raw[:2], "big")]
            return Parcel.unpack(AESGCM(key).decrypt(raw[2:14], raw[14:], f"parcel/{name}".encode()))
        except (KeyError, InvalidTag) as error:
            raise ValueError("not a parcel of this service") from error


def request_key(id: str) -> str:
    return f"unveil:request:{id}"


def answer_key(id: str) -> str:
    return f"unveil:answer:{id}"


class Messages:
    """What Celery sends, to be sent by others: its own way to Redis would hold up the event loop."""

    def __init__(self, app: Celery) -> None:
        self._app, self._channel = app, Connection(transport=_OnPaper).channel()
        self._producer = Producer(self._channel)

    def of(self, task: str, id: str) -> tuple[str, bytes]:
        """The list in Redis that the task's workers read, and what to push there."""
        self._app.send_task(task, args=[id], producer=self._producer)
        return self._channel.queue, json.dumps(self._channel.message).encode()


class _Paper(memory.Channel):
    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        self.queue, self.message = queue, message


class _OnPaper(memory.Transport):
    Channel = _Paper


async def ask(
    messages: Messages, client: redis.asyncio.Redis, parcels: Parcels, id: str, parcel: Parcel, budget_s: float
) -> Parcel:
    """Hand `parcel` to an encryption worker and wait for its answer. Raises NoWorker, and redis errors."""
    sealed = await asyncio.to_thread(parcels.seal, parcel, f"request/{id}")
    async with client.pipeline() as pipe:
        # It expires on Redis's clock; for an expiry of its message a worker would ask its own.
        pipe.set(request_key(id), sealed, ex=int(budget_s) + 1)
        pipe.lpush(*messages.of(TRANSFORM, id))
        await pipe.execute()
    deadline = time.monotonic() + budget_s
    while (left := deadline - time.monotonic()) > 0.01:  # none is no time: to Redis 0 means for ever
        answer: Any = await client.blpop([answer_key(id)], timeout=min(left, _LOOK_S))
        if answer is not None:
            return await asyncio.to_thread(parcels.open, answer[1], f"answer/{id}")
    await client.delete(request_key(id))
    raise NoWorker


def take_request(client: redis.Redis, parcels: Parcels, id: str) -> Parcel | None:
    """The worker's side: the request, once; None when it is no longer wanted."""
    raw = client.getdel(request_key(id))
    return None if raw is None else parcels.open(raw, f"request/{id}")  # type: ignore[arg-type]


def answer_request(client: redis.Redis, parcels: Parcels, id: str, parcel: Parcel) -> None:
    with client.pipeline() as pipe:
        pipe.rpush(answer_key(id), parcels.seal(parcel, f"answer/{id}"))
        pipe.expire(answer_key(id), 60)
        pipe.execute()
