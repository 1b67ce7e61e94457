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

from unveil.app.client.config import Address
from unveil.app.client.errors import Unreachable, problem_of

T = TypeVar("T")

_RETRIED = frozenset({429, 502, 503, 504})
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 30.0
_PATIENCE_S = 120.0  # who is asked to come back later than this is told so, and decides


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
class Try:
    """Send it once. Comes back: any response."""

    request: Request


@dataclass(frozen=True)
class Open:
    """Begin to read a response line by line, and end the one before. Comes back: what `Line` takes."""

    request: Request


@dataclass(frozen=True)
class Line:
    """Comes back: the next line of what `Open` brought; None after the last."""

    lines: Any


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Item(Generic[T]):
    """Hand this to whoever iterates."""

    value: T


Step = Request | Try | Open | Line | Pause
Talk = Generator[Step, Any, T]
Stream = Generator[Step | Item[T], Any, None]


class Caller:
    """Whatever has calls for methods."""

    _wire: Any  # an app.client.wire.Wire or AsyncWire, as the subclass has it


def tries(request: Request, address: Address) -> Talk[httpx.Response]:
    """How a request is tried again. Raises ProblemError, Unreachable.

    A POST carries an Idempotency-Key that stays the same over its tries, so that none makes a thing twice.
    """
    if request.method == "POST":
        request = replace(request, headers={"Idempotency-Key": uuid.uuid4().hex, **request.headers})
    for attempt in range(address.retries + 1):
        last = attempt == address.retries
        try:
            response: httpx.Response = yield Try(request)
        except httpx.TransportError as error:
            if last:
                raise Unreachable(f"no answer from {address.url}: {error or type(error).__name__}") from error
            yield Pause(backoff(attempt))
            continue
        if response.is_success or response.status_code == 304:
            return response
        if request.method == "DELETE" and attempt and response.status_code in (404, 410):
            return response  # the try whose answer was lost had worked
        problem = problem_of(response)
        again = response.status_code in _RETRIED or problem.code == "idempotency_running"
        asked = problem.retry_after_s or 0.0
        if last or not again or asked > _PATIENCE_S:
            raise problem
        yield Pause(asked + backoff(attempt))
    raise AssertionError("the last try returns or raises")


def backoff(attempt: int) -> float:
    """Doubling, with jitter so that many clients do not come back together."""
    return float(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt) * random.uniform(0.5, 1.0))
