"""The API's side: send a request to the encryption workers, wait for the reply, raise a rejection as a problem."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TypeVar

import redis.asyncio
from celery import Celery
from sqlalchemy.ext.asyncio import AsyncEngine

from unveil.app import broker
from unveil.app.db.heartbeats import ENCRYPT_QUEUE
from unveil.app.db.ids import new_id
from unveil.app.errors.problem import NoWorker, Problem, Unavailable
from unveil.app.rpc.codec import EncryptedMessageCodec
from unveil.app.rpc.messages import Request, RequestRejected
from unveil.app.security.concurrency_limiter import AccountConcurrencyLimiter

Reply = TypeVar("Reply")

_RETRY_AFTER = {"Retry-After": "5"}


@dataclass(frozen=True)
class WorkerClient:
    celery: Celery
    redis: redis.asyncio.Redis
    codec: EncryptedMessageCodec
    limiter: AccountConcurrencyLimiter
    engine: AsyncEngine

    async def call(
        self,
        request: Request,
        reply_type: type[Reply],
        *,
        timeout_s: float,
        short: bool = False,
    ) -> Reply:
        """The worker's reply, once the account has a free slot.

        short: the request takes about a second at most.
        Raises the problem of the worker's rejection, NoWorker, TooManyAtOnce, and errors of the broker.
        """
        message_id = new_id("msg")
        async with self.limiter.slot(self.engine, request.account_id, timeout_s, short=short):
            payload = await asyncio.to_thread(self.codec.encode, request, message_id, "request")
            try:
                raw = await broker.send_request(self.celery, self.redis, message_id, payload, timeout_s)
            except broker.ReplyTimeout:
                raise NoWorker(
                    f"no worker of the queue {ENCRYPT_QUEUE} replied within {timeout_s:g} s; nothing was "
                    "stored, try again",
                    headers=_RETRY_AFTER,
                ) from None
        reply = await asyncio.to_thread(self.codec.decode, raw, message_id, "reply", (reply_type, RequestRejected))
        if isinstance(reply, RequestRejected):
            raise _to_problem(reply)
        assert isinstance(reply, reply_type)
        return reply


def _to_problem(rejected: RequestRejected) -> Problem:
    first, *others = rejected.rejections
    kind = Problem.by_code[first.code]
    detail = first.detail + (f" (and {len(others)} more)" if others else "")
    errors = [(rejection.pointer, rejection.detail) for rejection in rejected.rejections if rejection.pointer]
    return kind(detail, errors, _RETRY_AFTER if issubclass(kind, Unavailable) else {})
