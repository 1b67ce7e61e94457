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

from unveil.app.db.heartbeats import ATTACK_QUEUE, ENCRYPT_QUEUE, OPS_QUEUE
from unveil.app.security.envelope import Keyring
from unveil.app.settings import Settings

RUN_CELL = "unveil.worker.tasks.run_cell"
TRAIN_KEY = "unveil.worker.tasks.train_key"
TRANSFORM = "unveil.worker.tasks.transform"

_QUEUE_BY_TASK = {RUN_CELL: ATTACK_QUEUE, TRAIN_KEY: ATTACK_QUEUE, TRANSFORM: ENCRYPT_QUEUE}
QUEUES = (*dict.fromkeys(_QUEUE_BY_TASK.values()), OPS_QUEUE)

_SOCKET_TIMEOUT_S = 5.0  # after which a client of Redis takes its connection for dead
_REPLY_POLL_S = 2.0  # one wait for an answer there


class WorkerTimeout(Exception):
    """Nobody answered within the budget."""


def make_celery_app(settings: Settings) -> Celery:
    """The Celery application of service and workers alike (the service only writes what it would send)."""
    app = Celery("unveil", broker=settings.redis_url)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_routes={name: {"queue": queue} for name, queue in _QUEUE_BY_TASK.items()},
        broker_transport_options={
            # Far above any job's own time: a redelivery is the sweeper's business, not the broker's.
            "visibility_timeout": 14 * 24 * 3600,
            # A Redis that hangs is away, to the workers too.
            "socket_timeout": _SOCKET_TIMEOUT_S,
            "socket_connect_timeout": _SOCKET_TIMEOUT_S,
        },
        # An image or archive that takes for ever costs its process, and the worker starts another.
        task_annotations={TRANSFORM: {"time_limit": max(settings.encrypt_timeout_s, settings.unpack_timeout_s) + 30}},
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
    )
    return app


def enqueue(app: Celery, task: str, *ids: str) -> None:
    """Send one message for each id. Raises kombu.exceptions.OperationalError when the broker is away; the sweeper
    then rings again."""
    for id in ids:
        app.send_task(task, args=[id], retry=False)


def queue_depth(app: Celery, task: str) -> int:
    """How many messages of a task's queue no worker has taken. Raises kombu.exceptions.OperationalError."""
    with app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        channel = connection.default_channel
        try:
            return int(channel.queue_declare(_QUEUE_BY_TASK[task], passive=True).message_count)
        except channel.connection.client.channel_errors:  # Redis forgets an empty queue
            return 0


@dataclass(frozen=True)
class RpcMessage:
    """What travels between request and encryption worker: a JSON head and some byte strings."""

    metadata: dict[str, Any]
    attachments: Sequence[bytes] = ()

    def pack(self) -> bytes:
        metadata = json.dumps(self.metadata, separators=(",", ":")).encode()
        sizes = struct.pack(
            f">II{len(self.attachments)}Q", len(metadata), len(self.attachments), *map(len, self.attachments)
        )
        return b"".join([sizes, metadata, *self.attachments])

    @staticmethod
    def unpack(raw: bytes) -> RpcMessage:
        metadata_size, count = struct.unpack_from(">II", raw)
        sizes = struct.unpack_from(f">{count}Q", raw, 8)
        offset = 8 + 8 * count
        metadata = json.loads(raw[offset : offset + metadata_size])
        offset += metadata_size
        attachments = []
        for size in sizes:
            attachments.append(raw[offset : offset + size])
            offset += size
        return RpcMessage(metadata, attachments)


class EncryptedMessageCodec:
    """Sealed parcels in Redis under an id, so that plain images never lie there in clear (nor in its log on disk)."""

    def __init__(self, keyring: Keyring) -> None:
        # Each process of the service and of the workers shares the ring; a request's parcels live for seconds.
        self._keyring = keyring

    def encode(self, message: RpcMessage, name: str) -> bytes:
        nonce = os.urandom(12)
        version = self._keyring.primary_version
        sealed = AESGCM(self._keyring.master_keys[version]).encrypt(nonce, message.pack(), f"message/{name}".encode())
        return version.to_bytes(2, "big") + nonce + sealed

    def decode(self, raw: bytes, name: str) -> RpcMessage:
        """Raises ValueError when it was not sealed under this ring and name."""
        try:
            key = self._keyring.master_keys[int.from_bytes(raw[:2], "big")]
            return RpcMessage.unpack(AESGCM(key).decrypt(raw[2:14], raw[14:], f"message/{name}".encode()))
        except (KeyError, InvalidTag) as error:
            raise ValueError("not a parcel of this service") from error


def request_key(id: str) -> str:
    return f"unveil:request:{id}"


def reply_key(id: str) -> str:
    return f"unveil:answer:{id}"


class CeleryMessageEncoder:
    """What Celery sends, to be sent by others: its own way to Redis would hold up the event loop."""

    def __init__(self, app: Celery) -> None:
        self._app, self._channel = app, Connection(transport=_RecordingTransport).channel()
        self._producer = Producer(self._channel)

    def encode(self, task: str, id: str) -> tuple[str, bytes]:
        """The list in Redis that the task's workers read, and what to push there."""
        self._app.send_task(task, args=[id], producer=self._producer)
        return self._channel.queue, json.dumps(self._channel.message).encode()


class _RecordingChannel(memory.Channel):
    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        self.queue, self.message = queue, message


class _RecordingTransport(memory.Transport):
    Channel = _RecordingChannel


async def call_worker(
    celery: CeleryMessageEncoder,
    client: redis.asyncio.Redis,
    message_codec: EncryptedMessageCodec,
    id: str,
    message: RpcMessage,
    timeout_s: float,
) -> RpcMessage:
    """Hand `parcel` to an encryption worker and wait for its answer. Raises NoWorker, and redis errors."""
    sealed = await asyncio.to_thread(message_codec.encode, message, f"request/{id}")
    async with client.pipeline() as pipe:
        # It expires on Redis's clock; for an expiry of its message a worker would ask its own.
        pipe.set(request_key(id), sealed, ex=int(timeout_s) + 1)
        pipe.lpush(*celery.encode(TRANSFORM, id))
        await pipe.execute()
    deadline = time.monotonic() + timeout_s
    while (remaining_s := deadline - time.monotonic()) > 0.01:  # none is no time: to Redis 0 means for ever
        reply: Any = await client.blpop([reply_key(id)], timeout=min(remaining_s, _REPLY_POLL_S))
        if reply is not None:
            return await asyncio.to_thread(message_codec.decode, reply[1], f"answer/{id}")
    await client.delete(request_key(id))
    raise WorkerTimeout


def pop_request(client: redis.Redis, message_codec: EncryptedMessageCodec, id: str) -> RpcMessage | None:
    """The worker's side: the request, once; None when it is no longer wanted."""
    raw = client.getdel(request_key(id))
    return None if raw is None else message_codec.decode(raw, f"request/{id}")  # type: ignore[arg-type]


def push_reply(client: redis.Redis, message_codec: EncryptedMessageCodec, id: str, message: RpcMessage) -> None:
    with client.pipeline() as pipe:
        pipe.rpush(reply_key(id), message_codec.encode(message, f"answer/{id}"))
        pipe.expire(reply_key(id), 60)
        pipe.execute()
