"""The two ways to carry out a talk, blocking and awaiting, and the methods that they make of one."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import AsyncExitStack, ExitStack, aclosing, closing
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx

from unveil.app.client.config import Address
from unveil.app.client.errors import problem_of
from unveil.app.client.operations_core import Caller, Item, Line, Open, Pause, Request, Step, Stream, Talk, Try, tries

S = TypeVar("S", bound=Caller)
P = ParamSpec("P")
T = TypeVar("T")

_LISTENING = httpx.Timeout(10, read=60)  # the service never leaves an open stream silent for so long


class Wire:
    """Blocking."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._http = httpx.Client(**address.options)

    def close(self) -> None:
        self._http.close()

    def run(self, talk: Talk[T]) -> T:
        with closing(self.iterate(_as_stream(talk))) as answers:
            return next(answers)

    def iterate(self, stream: Stream[T]) -> Generator[T]:
        outcome: Any = None
        with closing(stream), ExitStack() as opened:
            while (step := _next_step(stream, outcome)) is not None:
                if isinstance(step, Item):
                    yield step.value
                    outcome = None
                    continue
                try:
                    outcome = self._take(step, opened)
                except Exception as error:
                    outcome = error

    def _take(self, step: Step, opened: ExitStack) -> Any:
        match step:
            case Request():
                return self.run(tries(step, self.address))
            case Try(request):
                return self._http.request(**_arguments(request))
            case Open(request):
                opened.close()
                response = opened.enter_context(self._http.stream(**_arguments(request), timeout=_LISTENING))
                if not response.is_success:
                    response.read()
                    raise problem_of(response)
                return response.iter_lines()
            case Line(lines):
                return next(lines, None)
            case Pause(seconds):
                return time.sleep(seconds)


class AsyncWire:
    """Awaiting, on asyncio."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._http = httpx.AsyncClient(**address.options)

    async def close(self) -> None:
        await self._http.aclose()

    async def run(self, talk: Talk[T]) -> T:
        async with aclosing(self.iterate(_as_stream(talk))) as answers:
            return await anext(answers)

    async def iterate(self, stream: Stream[T]) -> AsyncGenerator[T]:
        outcome: Any = None
        with closing(stream):
            async with AsyncExitStack() as opened:
                while (step := _next_step(stream, outcome)) is not None:
                    if isinstance(step, Item):
                        yield step.value
                        outcome = None
                        continue
                    try:
                        outcome = await self._take(step, opened)
                    except Exception as error:
                        outcome = error

    async def _take(self, step: Step, opened: AsyncExitStack) -> Any:
        match step:
            case Request():
                return await self.run(tries(step, self.address))
            case Try(request):
                return await self._http.request(**_arguments(request))
            case Open(request):
                await opened.aclose()
                stream = self._http.stream(**_arguments(request), timeout=_LISTENING)
                response = await opened.enter_async_context(stream)
                if not response.is_success:
                    await response.aread()
                    raise problem_of(response)
                return response.aiter_lines()
            case Line(lines):
                return await anext(lines, None)
            case Pause(seconds):
                return await asyncio.sleep(seconds)


def _as_stream(talk: Talk[T]) -> Stream[T]:
    yield Item((yield from talk))


def _next_step(stream: Stream[T], outcome: Any) -> Step | Item[T] | None:
    """Tell a stream what came of its last step; what it wants next, None at its end."""
    try:
        return stream.throw(outcome) if isinstance(outcome, Exception) else stream.send(outcome)
    except StopIteration:
        return None


def _arguments(request: Request) -> dict[str, Any]:
    """For httpx."""
    given = {**vars(request), "files": None if request.files is None else request.files()}
    return {"url": given.pop("path"), **given}


# Methods out of talks. A talk's first argument is the object that the method belongs to.


def blocking(talk: Callable[Concatenate[S, P], Talk[T]]) -> Callable[Concatenate[S, P], T]:
    @functools.wraps(talk)
    def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        answer: T = self._wire.run(talk(self, *args, **kwargs))
        return answer

    return method


def iterating(stream: Callable[Concatenate[S, P], Stream[T]]) -> Callable[Concatenate[S, P], Iterator[T]]:
    @functools.wraps(stream)
    def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        items: Iterator[T] = self._wire.iterate(stream(self, *args, **kwargs))
        return items

    return method


def awaiting(talk: Callable[Concatenate[S, P], Talk[T]]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    @functools.wraps(talk)
    def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        answer: Coroutine[Any, Any, T] = self._wire.run(talk(self, *args, **kwargs))
        return answer

    return method


def async_iterating(stream: Callable[Concatenate[S, P], Stream[T]]) -> Callable[Concatenate[S, P], AsyncIterator[T]]:
    @functools.wraps(stream)
    def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        items: AsyncIterator[T] = self._wire.iterate(stream(self, *args, **kwargs))
        return items

    return method
