"""What an evaluation and a key in training share: a snapshot of something that goes on in the service."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from unveil.app.client.errors import TimedOut
from unveil.app.client.operations_core import BoundClient, Operation, Request, Sleep
from unveil.app.client.progress import ProgressSnapshot, progress_bar

_FIRST_POLL_INTERVAL_S, _MAX_POLL_INTERVAL_S = 0.2, 2.0


@dataclass
class RemoteJob(BoundClient, ABC):
    """`raw` is the service's whole answer, as new as the last `refresh`."""

    raw: dict[str, Any] = field(repr=False)
    _transport: Any = field(repr=False)
    _etag: str | None = field(default=None, repr=False)

    active_statuses: ClassVar[frozenset[str]]  # the statuses in which it goes on
    _collection: ClassVar[str]

    @property
    def id(self) -> str:
        return str(self.raw["id"])

    @property
    def status(self) -> str:
        return str(self.raw["status"])

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status not in self.active_statuses

    @property
    def path(self) -> str:
        return f"/{self._collection}/{self.id}"

    @abstractmethod
    def snapshot(self) -> ProgressSnapshot:
        """How far it has come, for a progress bar."""


J = TypeVar("J", bound=RemoteJob)


def refresh(job: J, /) -> Operation[J]:
    """Take the newest state into this object."""
    headers = {} if job._etag is None else {"If-None-Match": job._etag}
    response = yield Request("GET", job.path, headers=headers)
    if response.status_code != 304:
        job.raw, job._etag = response.json(), response.headers.get("ETag")
    return job


def wait(job: J, /, *, progress: bool | Callable[[J], None] = False, timeout: float | None = None) -> Operation[J]:
    """Until it has ended; look at `status` then. Raises TimedOut.

    progress: True draws a bar on the terminal; a function is called with this object at every look.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    interval = _FIRST_POLL_INTERVAL_S
    with ExitStack() as stack:
        on_update = stack.enter_context(progress_bar()) if progress is True else progress
        while True:
            yield from refresh(job)
            if on_update:
                on_update(job)
            if job.ended:
                return job
            if deadline is not None and time.monotonic() + interval > deadline:
                raise TimedOut(f"{job.id} is {job.status} after {timeout:g} s and goes on")
            yield Sleep(interval)
            interval = min(_MAX_POLL_INTERVAL_S, interval * 1.3)


def cancel(job: J, /) -> Operation[J]:
    """Stop it; what has been finished is kept."""
    yield Request("POST", f"{job.path}/cancel")
    return (yield from refresh(job))


def delete(job: J, /) -> Operation[None]:
    """Delete it, and destroy what belongs to it."""
    yield Request("DELETE", job.path)
