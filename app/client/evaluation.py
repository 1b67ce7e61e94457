"""An evaluation as a client sees it: a snapshot that can be refreshed, waited for and reported."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import httpx

from unveil.app.client import job
from unveil.app.client.errors import ServerProblem, Unreachable
from unveil.app.client.images import Pixels, decode
from unveil.app.client.job import Job
from unveil.app.client.operations_core import Item, Line, Open, Pause, Request, Stream, Talk, backoff
from unveil.app.client.progress import Look
from unveil.app.client.transport import async_iterating, awaiting, blocking, iterating
from unveil.app.client.types import Progress, Verdict

Format = Literal["html", "json", "csv", "md", "zip"]
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
    links: dict[str, str]

    @property
    def ssim(self) -> float | None:
        """Mean SSIM between the plain images and what the attack made of the protected ones."""
        ssim = (self.result or {}).get("ssim")
        return None if ssim is None else float(ssim["mean"])

    @property
    def verdict(self) -> str | None:
        """broken, leaks, no leak found or inconclusive."""
        return (self.result or {}).get("verdict")


class EvaluationState(Job):
    active: ClassVar = frozenset({"queued", "running", "cancelling"})
    _room: ClassVar = "evaluations"

    @property
    def name(self) -> str:
        return str(self.raw["name"])

    @property
    def progress(self) -> Progress:
        """done, total, fraction, eta_s, phase."""
        progress: Progress = self.raw["progress"]
        return progress

    @property
    def verdicts(self) -> list[Verdict]:
        """One a scheme: the worst case over its attacks."""
        return list(self.raw["verdicts"])

    @property
    def utility(self) -> list[dict[str, Any]]:
        """What protection costs a classifier, one a scheme, where it was ordered."""
        return list(self.raw.get("utility", []))

    @property
    def cells(self) -> list[Cell]:
        """Scheme by scheme, attack by attack."""
        return [Cell(**{field.name: cell.get(field.name) for field in fields(Cell)}) for cell in self.raw["cells"]]

    def look(self) -> Look:
        now = self.progress
        eta = None if self.ended else now["eta_s"]
        return Look(now["fraction"], now["phase"] or self.status, f"{now['done']}/{now['total']} cells", eta)


def _events(evaluation: EvaluationState, /, after: int = 0) -> Stream[Event]:
    """Its events as they happen, from the one after `after`, until it has ended; reconnects by itself."""
    failures = 0
    while True:
        try:
            lines = yield Open(Request("GET", f"{evaluation.path}/events", headers={"Last-Event-ID": str(after)}))
            fields: list[str] = []
            while (line := (yield Line(lines))) is not None:
                if line:
                    fields.append(line)
                    continue
                event, fields = _event(fields), []
                if event is not None:
                    after, failures = event.id, 0
                    yield Item(event)
            yield from job.refresh(evaluation)
            if evaluation.ended:
                return
        except (httpx.TransportError, ServerProblem) as error:
            failures += 1
            if failures > _RECONNECTS:
                raise Unreachable(f"lost the events of {evaluation.id}: {error}") from error
        yield Pause(backoff(failures))


def _event(lines: list[str]) -> Event | None:
    """A server-sent event out of its lines; None for a comment, which only keeps the line open."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        fields[name] = f"{fields[name]}\n{value}" if name in fields else value
    if not {"id", "data"} <= fields.keys():
        return None
    return Event(int(fields["id"]), fields.get("event", "message"), json.loads(fields["data"]))


def _report(evaluation: EvaluationState, /, format: Format = "html") -> Talk[bytes]:
    """The report as a file's bytes."""
    return (yield from _content(f"{evaluation.path}/report.{format}"))


def _fetch(_: EvaluationState, /, link: str) -> Talk[bytes]:
    """What a link of this evaluation holds: a sample's PNG, scores.csv, a curve."""
    return (yield from _content(link))


def _pixels(_: EvaluationState, /, link: str) -> Talk[Pixels]:
    """A sample's picture: uint8 [height, width, 3]."""
    return decode((yield from _content(link)))


def _content(path: str) -> Talk[bytes]:
    response: httpx.Response = yield Request("GET", path)
    return response.content


class Evaluation(EvaluationState):
    refresh = blocking(job.refresh)
    wait = blocking(job.wait)
    cancel = blocking(job.cancel)
    delete = blocking(job.delete)
    events = iterating(_events)
    report = blocking(_report)
    fetch = blocking(_fetch)
    pixels = blocking(_pixels)


class AsyncEvaluation(EvaluationState):
    refresh = awaiting(job.refresh)
    wait = awaiting(job.wait)
    cancel = awaiting(job.cancel)
    delete = awaiting(job.delete)
    events = async_iterating(_events)
    report = awaiting(_report)
    fetch = awaiting(_fetch)
    pixels = awaiting(_pixels)
