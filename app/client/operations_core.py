"""What a call wants of the world, said without touching it: written once, and run by threads as by asyncio.

A `Talk` is a generator. It yields steps, is sent what came of each, and returns the answer of the call. The steps are
taken by `app.client.wire`, once blocking and once awaiting, which makes methods of talks.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import httpx

from unveil.app.client.config import ClientConfig
from unveil.app.client.errors import Unreachable, error_from_response

T = TypeVar("T")

_RETRIED_STATUSES = frozenset({429, 502, 503, 504})
_FIRST_BACKOFF_S, _MAX_BACKOFF_S = 0.25, 30.0
_MAX_RETRY_AFTER_S = 120.0  # a longer Retry-After is raised to the caller, who decides


@dataclass(frozen=True)
class Request:
    """Send it, and again where that is safe and may help. Comes back: the 2xx or 304 response."""

    method: str
    path: str
    params: Mapping[str, Any] | None = None
    json: Any = None
    data: Mapping[str, Any] | None = None
    files: Callable[[], Any] | None = None  # called for each try: a file that one has read cannot serve the next
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Send:
    """Send it once. Comes back: any response."""

    request: Request


@dataclass(frozen=True)
class OpenStream:
    """Begin to read a response line by line, and end the one before. Comes back: what `Line` takes."""

    request: Request


@dataclass(frozen=True)
class ReadLine:
    """Comes back: the next line of what `Open` brought; None after the last."""

    lines: Any


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Yield(Generic[T]):
    """Hand this to whoever iterates."""

    value: T


Effect = Request | Send | OpenStream | ReadLine | Sleep
Operation = Generator[Effect, Any, T]
StreamOperation = Generator[Effect | Yield[T], Any, None]


class BoundClient:
    """Whatever has calls for methods."""

    _transport: Any  # an app.client.wire.Wire or AsyncWire, as the subclass has it


def with_retries(request: Request, config: ClientConfig) -> Operation[httpx.Response]:
    """How a request is tried again. Raises ProblemError, Unreachable.

    A POST carries an Idempotency-Key that stays the same over its tries, so that none makes a thing twice.
    """
    if request.method == "POST":
        request = replace(request, headers={"Idempotency-Key": uuid.uuid4().hex, **request.headers})
    for attempt in range(config.retries + 1):
        is_last_attempt = attempt == config.retries
        try:
            response: httpx.Response = yield Send(request)
        except httpx.TransportError as error:
            if is_last_attempt:
                raise Unreachable(f"no answer from {config.url}: {error or type(error).__name__}") from error
            yield Sleep(backoff_seconds(attempt))
            continue
        if response.is_success or response.status_code == 304:
            return response
        if request.method == "DELETE" and attempt and response.status_code in (404, 410):
            return response  # the try whose answer was lost had worked
        problem = error_from_response(response)
        is_retryable = response.status_code in _RETRIED_STATUSES or problem.code == "idempotency_running"
        retry_after_s = problem.retry_after_s or 0.0
        if is_last_attempt or not is_retryable or retry_after_s > _MAX_RETRY_AFTER_S:
            raise problem
        yield Sleep(retry_after_s + backoff_seconds(attempt))
    raise AssertionError("the last try returns or raises")


def backoff_seconds(attempt: int) -> float:
    """Doubling, with jitter so that many clients do not come back together."""
    return float(min(_MAX_BACKOFF_S, _FIRST_BACKOFF_S * 2**attempt) * random.uniform(0.5, 1.0))
