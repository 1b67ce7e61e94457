"""The two ways to carry out a talk, blocking and awaiting, and the methods that they make of one."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import AsyncExitStack, ExitStack, aclosing, closing
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx

from unveil.app.client.config import ClientConfig
from unveil.app.client.errors import error_from_response
from unveil.app.client.operations_core import (
    BoundClient,
    Effect,
    OpenStream,
    Operation,
    ReadLine,
    Request,
    Send,
    Sleep,
    StreamOperation,
    Yield,
    with_retries,
)

S = TypeVar("S", bound=BoundClient)
P = ParamSpec("P")
T = TypeVar("T")

_STREAM_TIMEOUT = httpx.Timeout(10, read=60)  # the service never leaves an open stream silent for so long


class SyncTransport:
    """Blocking."""

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self._http = httpx.Client(**config.httpx_options)

    def close(self) -> None:
        self._http.close()

    def run(self, operation: Operation[T]) -> T:
        with closing(self.iterate(_as_stream(operation))) as results:
            return next(results)

    def iterate(self, stream: StreamOperation[T]) -> Generator[T]:
        outcome: Any = None
        with closing(stream), ExitStack() as stack:
            while (effect := _next_effect(stream, outcome)) is not None:
                if isinstance(effect, Yield):
                    yield effect.value
                    outcome = None
                    continue
                try:
                    outcome = self._perform(effect, stack)
                except Exception as error:
                    outcome = error

    def _perform(self, effect: Effect, stack: ExitStack) -> Any:
        match effect:
            case Request():
                return self.run(with_retries(effect, self.config))
            case Send(request):
                return self._http.request(**_httpx_arguments(request))
            case OpenStream(request):
                stack.close()
                response = stack.enter_context(self._http.stream(**_httpx_arguments(request), timeout=_STREAM_TIMEOUT))
                if not response.is_success:
                    response.read()
                    raise error_from_response(response)
                return response.iter_lines()
            case ReadLine(lines):
                return next(lines, None)
            case Sleep(seconds):
                return time.sleep(seconds)


class AsyncTransport:
    """Awaiting, on asyncio."""

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self._http = httpx.AsyncClient(**config.httpx_options)

    async def close(self) -> None:
        await self._http.aclose()

    async def run(self, operation: Operation[T]) -> T:
        async with aclosing(self.iterate(_as_stream(operation))) as results:
            return await anext(results)

    async def iterate(self, stream: StreamOperation[T]) -> AsyncGenerator[T]:
        outcome: Any = None
        with closing(stream):
            async with AsyncExitStack() as stack:
                while (effect := _next_effect(stream, outcome)) is not None:
                    if isinstance(effect, Yield):
                        yield effect.value
                        outcome = None
                        continue
                    try:
                        outcome = await self._perform(effect, stack)
                    except Exception as error:
                        outcome = error

    async def _perform(self, effect: Effect, stack: AsyncExitStack) -> Any:
        match effect:
            case Request():
                return await self.run(with_retries(effect, self.config))
            case Send(request):
                return await self._http.request(**_httpx_arguments(request))
            case OpenStream(request):
                await stack.aclose()
                stream = self._http.stream(**_httpx_arguments(request), timeout=_STREAM_TIMEOUT)
                response = await stack.enter_async_context(stream)
                if not response.is_success:
                    await response.aread()
                    raise error_from_response(response)
                return response.aiter_lines()
            case ReadLine(lines):
                return await anext(lines, None)
            case Sleep(seconds):
                return await asyncio.sleep(seconds)


def _as_stream(operation: Operation[T]) -> StreamOperation[T]:
    yield Yield((yield from operation))


def _next_effect(stream: StreamOperation[T], outcome: Any) -> Effect | Yield[T] | None:
    """Tell a stream what came of its last step; what it wants next, None at its end."""
    try:
        return stream.throw(outcome) if isinstance(outcome, Exception) else stream.send(outcome)
    except StopIteration:
        return None


def _httpx_arguments(request: Request) -> dict[str, Any]:
    """For httpx."""
    arguments = {**vars(request), "files": None if request.files is None else request.files()}
    return {"url": arguments.pop("path"), **arguments}


# Methods out of talks. A talk's first argument is the object that the method belongs to.


def sync_method(operation: Callable[Concatenate[S, P], Operation[T]]) -> Callable[Concatenate[S, P], T]:
    @functools.wraps(operation)
    def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = self._transport.run(operation(self, *args, **kwargs))
        return result

    return method


def sync_iterator_method(
    stream: Callable[Concatenate[S, P], StreamOperation[T]],
) -> Callable[Concatenate[S, P], Iterator[T]]:
    @functools.wraps(stream)
    def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        items: Iterator[T] = self._transport.iterate(stream(self, *args, **kwargs))
        return items

    return method


def async_method(
    operation: Callable[Concatenate[S, P], Operation[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    @functools.wraps(operation)
    def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        result: Coroutine[Any, Any, T] = self._transport.run(operation(self, *args, **kwargs))
        return result

    return method


def async_iterator_method(
    stream: Callable[Concatenate[S, P], StreamOperation[T]],
) -> Callable[Concatenate[S, P], AsyncIterator[T]]:
    @functools.wraps(stream)
    def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        items: AsyncIterator[T] = self._transport.iterate(stream(self, *args, **kwargs))
        return items

    return method
