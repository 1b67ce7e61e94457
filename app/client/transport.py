"""One request to the service, tried again where that is safe and may help.

Every POST carries an Idempotency-Key that stays the same over its retries, so a retry never makes a thing twice.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from app.client.errors import Unreachable, problem_of

_RETRIED = frozenset({429, 502, 503, 504})
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 30.0


class Transport:
    def __init__(self, url: str, token: str | None, *, timeout: float, retries: int) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)
        self._retries = retries

    @property
    def url(self) -> str:
        return str(self._http.base_url).rstrip("/")

    def close(self) -> None:
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        files: Callable[[], Any] | None = None,
        **options: Any,
    ) -> httpx.Response:
        """The 2xx or 304 response. Raises ProblemError or Unreachable.

        `files` is called for each try: a stream that one try has consumed cannot serve the next.
        """
        headers = dict(headers or {})
        if method == "POST":
            headers.setdefault("Idempotency-Key", uuid.uuid4().hex)
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            try:
                response = self._http.request(
                    method, path, headers=headers, files=None if files is None else files(), **options
                )
            except httpx.TransportError as error:
                if last:
                    raise Unreachable(f"no answer from {self.url}: {error}") from error
                time.sleep(_pause(attempt))
                continue
            if response.is_success or response.status_code == 304:
                return response
            if method == "DELETE" and attempt and response.status_code in (404, 410):
                return response  # the try whose answer was lost had worked
            problem = problem_of(response)
            again = response.status_code in _RETRIED or problem.code == "idempotency_running"
            if last or not again:
                raise problem
            time.sleep(_asked_pause(response) or _pause(attempt))
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def stream(self, path: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """A response to read as it comes, tried once; the reader reconnects. Raises ProblemError, httpx errors."""
        with self._http.stream("GET", path, headers=headers, timeout=httpx.Timeout(10, read=60)) as response:
            if not response.is_success:
                response.read()
                raise problem_of(response)
            yield response


def _pause(attempt: int) -> float:
    """Doubling, with jitter so that many clients do not come back together."""
    return float(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt) * random.uniform(0.5, 1.0))


def _asked_pause(response: httpx.Response) -> float | None:
    """What Retry-After asks for (seconds or a date), within reason."""
    value = response.headers.get("Retry-After", "")
    if value.isdigit():
        return min(_LONGEST_PAUSE_S, float(value))
    try:
        wait = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except ValueError:
        return None
    return min(_LONGEST_PAUSE_S, max(0.0, wait))
