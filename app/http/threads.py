"""Work on many bytes goes to a thread, so that the event loop answers others meanwhile."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_SMALL = 2**18  # bytes that are done with sooner than a thread is woken

P = ParamSpec("P")
T = TypeVar("T")


async def aside(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """work(*args), which takes as long as so many bytes do."""
    if size < _SMALL:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
