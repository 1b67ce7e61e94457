"""An evaluation as a client sees it: a snapshot that can be refreshed, waited for and reported."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from app.client.errors import ServerProblem, TimedOut, Unreachable
from app.client.progress import bar
from app.client.transport import Transport

Format = Literal["html", "json", "csv", "md", "zip"]
_ENDED = frozenset({"succeeded", "failed", "cancelled"})
_FIRST_POLL_S, _LONGEST_POLL_S = 0.2, 2.0
_RECONNECTS = 10


@dataclass(frozen=True)
class Event:
    """One event of an evaluation's stream: `progress`, `cell`, `metric` or `status`."""

    id: int
    type: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One scheme under one attack. `result` is None until it has succeeded."""

    id: str
    scheme: dict[str, Any]
    attack: dict[str, Any]
    threat_model: str
    status: str
    progress: float
    error: dict[str, Any] | None
    reason: str | None  # why the pair cannot be run, where it is not_applicable
    result: dict[str, Any] | None
    samples: list[dict[str, Any]]

    @property
    def ssim(self) -> float | None:
        """Mean SSIM between the plain images and what the attack made of the protected ones."""
        ssim = (self.result or {}).get("ssim")
        return None if ssim is None else float(ssim["mean"])

    @property
    def verdict(self) -> str | None:
        return (self.result or {}).get("verdict")


@dataclass
class Evaluation:
    """`raw` is the service's whole answer."""

    raw: dict[str, Any] = field(repr=False)
    _transport: Transport = field(repr=False)
    _etag: str | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        return str(self.raw["id"])

    @property
    def name(self) -> str:
        return str(self.raw["name"])

    @property
    def status(self) -> str:
        return str(self.raw["status"])

    @property
    def ended(self) -> bool:
        return self.status in _ENDED

    @property
    def progress(self) -> dict[str, Any]:
        """done, total, fraction, eta_s, phase."""
        return dict(self.raw["progress"])

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        return list(self.raw["verdicts"])

    @property
    def cells(self) -> list[Cell]:
        names = Cell.__dataclass_fields__
        return [Cell(**{name: cell.get(name) for name in names}) for cell in self.raw["cells"]]

    @property
    def _path(self) -> str:
        return f"/evaluations/{self.id}"

    def refresh(self) -> Evaluation:
        """Take the newest state into this object."""
        headers = {} if self._etag is None else {"If-None-Match": self._etag}
        response = self._transport.request("GET", self._path, headers=headers)
        if response.status_code != 304:
            self.raw, self._etag = response.json(), response.headers.get("ETag")
        return self

    def wait(
        self, *, progress: bool | Callable[[Evaluation], None] = False, timeout: float | None = None
    ) -> Evaluation:
        """Until it has ended; look at `status` then. Raises TimedOut.

        progress: True draws a bar on the terminal; a function is called with this object at every look.
        """
        if progress is True:
            with bar() as show:
                return self.wait(progress=show, timeout=timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _FIRST_POLL_S
        while True:
            self.refresh()
            if callable(progress):
                progress(self)
            if self.ended:
                return self
            if deadline is not None and time.monotonic() + pause > deadline:
                raise TimedOut(f"{self.id} is {self.status} after {timeout:g} s and goes on")
            time.sleep(pause)
            pause = min(_LONGEST_POLL_S, pause * 1.3)

    def events(self, after: int = 0) -> Iterator[Event]:
        """Its events as they happen, from the one after `after`, until it has ended; reconnects by itself."""
        failures = 0
        while True:
            try:
                with self._transport.stream(f"{self._path}/events", {"Last-Event-ID": str(after)}) as response:
                    for event in _events(response.iter_lines()):
                        after, failures = event.id, 0
                        yield event
                if self.refresh().ended:
                    return
            except (httpx.TransportError, ServerProblem) as error:
                failures += 1
                if failures > _RECONNECTS:
                    raise Unreachable(f"lost the events of {self.id}: {error}") from error
            time.sleep(min(_LONGEST_POLL_S, _FIRST_POLL_S * 2**failures))

    def cancel(self) -> Evaluation:
        self._transport.request("POST", f"{self._path}/cancel")
        return self.refresh()

    def delete(self) -> None:
        self._transport.request("DELETE", self._path)

    def report(self, format: Format = "html") -> bytes:
        """The report as a file's bytes."""
        return self._transport.request("GET", f"{self._path}/report.{format}").content

    def fetch(self, link: str) -> bytes:
        """What a link of this evaluation holds: a sample's PNG, scores.csv, a curve."""
        return self._transport.request("GET", link).content


def _events(lines: Iterator[str]) -> Iterator[Event]:
    """Server-sent events out of lines: fields, then an empty line."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and "data" in fields else value
        elif "data" in fields and "id" in fields:
            yield Event(int(fields["id"]), fields.get("event", "message"), json.loads(fields["data"]))
            fields = {}
        else:  # a comment that keeps the line open
            fields = {}
