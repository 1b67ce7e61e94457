"""How requests are sent, and sent again: one coroutine for both clients, over httpx's blocking or its asyncio client.

Every operation is an `async def` over a `Transport`. `SyncTransport` blocks inside its coroutines and never suspends,
so `blocking` can run an operation to its end without an event loop.
"""

from __future__ import annotations

import functools
import random
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx

from unveil.app.client.config import ClientConfig
from unveil.app.client.errors import Unreachable, error_from_response

_RETRIED_STATUSES = frozenset({429, 502, 503, 504})
_FIRST_BACKOFF_S, _MAX_BACKOFF_S = 0.25, 30.0
_MAX_RETRY_AFTER_S = 120.0  # a longer Retry-After is raised to the caller, who decides
_STREAM_TIMEOUT = httpx.Timeout(10, read=60)  # the service never leaves an open stream silent for so long


class Transport(ABC):
    def __init__(self, config: ClientConfig) -> None:
        self.config = config

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def sleep(self, seconds: float) -> None: ...

    @abstractmethod
    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request once."""

    @abstractmethod
    def stream_lines(self, path: str, headers: dict[str, str]) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Read a response line by line."""

    async def request(
        self, method: str, path: str, *, files: Callable[[], Any] | None = None, **options: Any
    ) -> httpx.Response:
        """The 2xx or 304 response, after retries where those are safe. Raises ProblemError, Unreachable.

        A POST has an Idempotency-Key that stays the same over its attempts, so that it creates nothing twice. `files`
        is called for each attempt: a file that one attempt has read cannot serve the next.
        """
        if method == "POST":
            options["headers"] = {"Idempotency-Key": uuid.uuid4().hex, **options.get("headers", {})}
        for attempt in range(self.config.retries + 1):
            is_last_attempt = attempt == self.config.retries
            try:
                response = await self._send(method, path, files=files and files(), **options)
            except httpx.TransportError as error:
                if is_last_attempt:
                    raise Unreachable(f"no response from {self.config.url}: {error or type(error).__name__}") from error
                await self.sleep(backoff_seconds(attempt))
                continue
            if response.is_success or response.status_code == 304:
                return response
            if method == "DELETE" and attempt and response.status_code in (404, 410):
                return response  # the attempt whose answer was lost had worked
            problem = error_from_response(response)
            is_retryable = response.status_code in _RETRIED_STATUSES or problem.code == "idempotency_running"
            retry_after_s = problem.retry_after_s or 0.0
            if is_last_attempt or not is_retryable or retry_after_s > _MAX_RETRY_AFTER_S:
                raise problem
            await self.sleep(retry_after_s + backoff_seconds(attempt))
        raise AssertionError("the last attempt returns or raises")


def backoff_seconds(attempt: int) -> float:
    """Doubling, with jitter so that many clients do not come back together."""
    return float(min(_MAX_BACKOFF_S, _FIRST_BACKOFF_S * 2**attempt) * random.uniform(0.5, 1.0))


class AsyncTransport(Transport):
    def __init__(self, config: ClientConfig) -> None:
        super().__init__(config)
        self._http = httpx.AsyncClient(**config.httpx_options)

    async def close(self) -> None:
        await self._http.aclose()

    async def sleep(self, seconds: float) -> None:
        import asyncio  # takes longer to import than a short command of the command line runs

        await asyncio.sleep(seconds)

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self._http.request(method, path, **options)

    @asynccontextmanager
    async def stream_lines(self, path: str, headers: dict[str, str]) -> AsyncGenerator[AsyncIterator[str]]:
        async with self._http.stream("GET", path, headers=headers, timeout=_STREAM_TIMEOUT) as response:
            if not response.is_success:
                await response.aread()
                raise error_from_response(response)
            yield response.aiter_lines()


class SyncTransport(Transport):
    def __init__(self, config: ClientConfig) -> None:
        super().__init__(config)
        self._http = httpx.Client(**config.httpx_options)

    async def close(self) -> None:
        self._http.close()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - no event loop runs this

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._http.request(method, path, **options)

    @asynccontextmanager
    async def stream_lines(self, path: str, headers: dict[str, str]) -> AsyncGenerator[AsyncIterator[str]]:
        with self._http.stream("GET", path, headers=headers, timeout=_STREAM_TIMEOUT) as response:
            if not response.is_success:
                response.read()
                raise error_from_response(response)
            yield _iterate(response.iter_lines())


async def _iterate(lines: Iterable[str]) -> AsyncIterator[str]:
    for line in lines:
        yield line


class BoundClient:
    """An object with operations as methods."""

    _transport: Transport


S = TypeVar("S", bound=BoundClient)
P = ParamSpec("P")
T = TypeVar("T")


def run_blocking(operation: Coroutine[Any, Any, T]) -> T:
    """Run an operation over a `SyncTransport`."""
    try:
        operation.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("an operation over SyncTransport never suspends")


def blocking(operation: Callable[Concatenate[S, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[S, P], T]:
    """The operation as a method of the blocking client."""

    @functools.wraps(operation)
    def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run_blocking(operation(self, *args, **kwargs))

    return method


def blocking_iterator(
    operation: Callable[Concatenate[S, P], AsyncGenerator[T]],
) -> Callable[Concatenate[S, P], Iterator[T]]:
    """The iterating operation as a method of the blocking client."""

    @functools.wraps(operation)
    def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        items = operation(self, *args, **kwargs)
        try:
            while True:
                yield run_blocking(anext(items))
        except StopAsyncIteration:
            return
        finally:
            run_blocking(items.aclose())

    return method
