"""What an evaluation and a trained key share: a snapshot of a job in the service, with polling and cancellation."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from unveil.app.client.errors import TimedOut
from unveil.app.client.progress import ProgressSnapshot
from unveil.app.client.transport import BoundClient, Transport, blocking

_FIRST_POLL_INTERVAL_S, _MAX_POLL_INTERVAL_S = 0.2, 2.0


@dataclass
class RemoteJob(BoundClient, ABC):
    """`raw` is the service's whole answer to the last `refresh`."""

    raw: dict[str, Any] = field(repr=False)
    _transport: Transport = field(repr=False)
    _etag: str | None = field(default=None, repr=False)

    active_statuses: ClassVar[frozenset[str]]  # the statuses before its end
    _collection: ClassVar[str]

    @property
    def id(self) -> str:
        return str(self.raw["id"])

    @property
    def status(self) -> str:
        return str(self.raw["status"])

    @property
    def ended(self) -> bool:
        """Whether its status is final."""
        return self.status not in self.active_statuses

    @property
    def path(self) -> str:
        return f"/{self._collection}/{self.id}"

    @abstractmethod
    def snapshot(self) -> ProgressSnapshot:
        """Its progress, for a progress bar."""


J = TypeVar("J", bound=RemoteJob)


async def refresh(job: J, /) -> J:
    """Update this object to the current state."""
    headers = {} if job._etag is None else {"If-None-Match": job._etag}
    response = await job._transport.request("GET", job.path, headers=headers)
    if response.status_code != 304:
        job.raw, job._etag = response.json(), response.headers.get("ETag")
    return job


async def wait(job: J, /, *, progress: bool | Callable[[J], None] = False, timeout: float | None = None) -> J:  # noqa: ASYNC109
    """Wait until it ends, in whatever `status`. Raises TimedOut.

    progress: True draws a bar on the terminal; a function is called with this object after every poll.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    interval = _FIRST_POLL_INTERVAL_S
    with ExitStack() as stack:
        on_update = None if isinstance(progress, bool) else progress
        if progress is True:
            from unveil.app.client.progress_bar import progress_bar  # loads Rich

            on_update = stack.enter_context(progress_bar())
        while True:
            await refresh(job)
            if on_update:
                on_update(job)
            if job.ended:
                return job
            if deadline is not None and time.monotonic() + interval > deadline:
                raise TimedOut(f"{job.id} is still {job.status} after {timeout:g} s")
            await job._transport.sleep(interval)
            interval = min(_MAX_POLL_INTERVAL_S, interval * 1.3)


async def cancel(job: J, /) -> J:
    """Cancel it; results of finished parts are kept."""
    await job._transport.request("POST", f"{job.path}/cancel")
    return await refresh(job)


async def delete(job: RemoteJob, /) -> None:
    """Delete it with everything that belongs to it."""
    await job._transport.request("DELETE", job.path)


class BlockingJob(RemoteJob):
    refresh = blocking(refresh)
    wait = blocking(wait)
    cancel = blocking(cancel)
    delete = blocking(delete)


class AsyncJob(RemoteJob):
    refresh, wait, cancel, delete = refresh, wait, cancel, delete
