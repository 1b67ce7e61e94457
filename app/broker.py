"""All access to Celery, and the path of encryption requests through Redis.

Jobs: a message asks a worker to run the next job. It names none: the row is the source of truth, and the scheduler
chooses. Encryption: the encrypted request waits in Redis for at most its timeout, and the reply returns the same way.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import redis
import redis.asyncio
from celery import Celery

from unveil.app.db.heartbeats import ATTACK_QUEUE, ENCRYPT_QUEUE, OPS_QUEUE
from unveil.app.settings import Settings

RUN_NEXT_JOB = "unveil.run_next_job"
HANDLE_REQUEST = "unveil.handle_request"

QUEUES = (ATTACK_QUEUE, ENCRYPT_QUEUE, OPS_QUEUE)

_SOCKET_TIMEOUT_S = 5.0  # a connection to Redis that is silent for longer counts as lost
_REPLY_POLL_S = 2.0  # one BLPOP for a reply
_MIN_POLL_S = 0.01
_REPLY_TTL_S = 60


class ReplyTimeout(Exception):
    """No worker replied in time."""


def make_celery_app(settings: Settings) -> Celery:
    """The Celery application of the API, which only sends, and of the workers."""
    app = Celery("unveil", broker=settings.celery_broker_url)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_routes={RUN_NEXT_JOB: {"queue": ATTACK_QUEUE}, HANDLE_REQUEST: {"queue": ENCRYPT_QUEUE}},
        broker_transport_options={
            # Far above the duration of any job: the sweeper redispatches lost jobs, not the broker.
            "visibility_timeout": 14 * 24 * 3600,
            "socket_timeout": _SOCKET_TIMEOUT_S,
            "socket_connect_timeout": _SOCKET_TIMEOUT_S,
            # By default kombu retries a refused connection for 6 s, while a request waits.
            "max_retries": 1,
            "interval_start": 0,
        },
        # A request that hangs costs its pool process, which the worker replaces.
        task_annotations={
            HANDLE_REQUEST: {"time_limit": max(settings.encrypt_timeout_s, settings.unpack_timeout_s) + 30}
        },
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
    )
    return app


def enqueue_jobs(app: Celery, count: int) -> None:
    """Send one message per queued job. Raises kombu.exceptions.OperationalError when the broker is unavailable."""
    with app.producer_or_acquire() as producer:
        for _ in range(count):
            app.send_task(RUN_NEXT_JOB, producer=producer, retry=False)


def count_job_messages(app: Celery) -> int:
    """Messages for jobs that no worker has received. Raises kombu.exceptions.OperationalError."""
    with app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        channel = connection.default_channel
        try:
            return int(channel.queue_declare(ATTACK_QUEUE, passive=True).message_count)
        except channel.connection.client.channel_errors:  # Redis deletes an empty list
            return 0


def request_key(message_id: str) -> str:
    return f"unveil:request:{message_id}"


def reply_key(message_id: str) -> str:
    return f"unveil:reply:{message_id}"


async def send_request(
    app: Celery, client: redis.asyncio.Redis, message_id: str, payload: bytes, timeout_s: float
) -> bytes:
    """Hand an encrypted request to an encryption worker and wait for its encrypted reply.

    Raises ReplyTimeout, and errors of Redis and Celery.
    """
    deadline = time.monotonic() + timeout_s
    # Redis expires the request, so a worker needs no clock that agrees with ours.
    await client.set(request_key(message_id), payload, ex=int(timeout_s) + 1)
    await asyncio.to_thread(app.send_task, HANDLE_REQUEST, args=[message_id], retry=False)
    # BLPOP treats timeout=0 as infinite, so stop before it rounds to zero.
    while (remaining_s := deadline - time.monotonic()) > _MIN_POLL_S:
        reply: Any = await client.blpop([reply_key(message_id)], timeout=min(remaining_s, _REPLY_POLL_S))
        if reply is not None:
            return bytes(reply[1])
    await client.delete(request_key(message_id))
    raise ReplyTimeout


def pop_request(client: redis.Redis, message_id: str) -> bytes | None:
    """Take the encrypted request, once; None when it expired or another process took it."""
    payload: Any = client.getdel(request_key(message_id))
    return None if payload is None else bytes(payload)


def push_reply(client: redis.Redis, message_id: str, payload: bytes) -> None:
    with client.pipeline() as pipe:
        pipe.rpush(reply_key(message_id), payload)
        pipe.expire(reply_key(message_id), _REPLY_TTL_S)
        pipe.execute()
