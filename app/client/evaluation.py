"""An evaluation in the client: a snapshot that can be refreshed, waited for and reported."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast
from urllib.parse import quote

import httpx

from unveil.app.client.errors import ServerProblem, Unreachable
from unveil.app.client.images import decode_rgb
from unveil.app.client.job import AsyncJob, BlockingJob, RemoteJob, refresh
from unveil.app.client.options import ReportFormat
from unveil.app.client.progress import ProgressSnapshot
from unveil.app.client.transport import backoff_seconds, blocking, blocking_iterator
from unveil.app.client.types import Share, ShareCreated

# The types of a response are imported where one is read: many commands need none of them.
if TYPE_CHECKING:
    import pandas as pd

    from unveil.app.client.images import Pixels
    from unveil.app.report import evaluation as view
    from unveil.app.report.evaluation import Cell, EvaluationVerdict, Progress, UtilityJob
    from unveil.app.report.plot import Plot
    from unveil.app.report.table import EvaluationTable

_MAX_RECONNECTS = 10


@dataclass(frozen=True)
class Event:
    """One event of an evaluation's stream: `progress`, `cell`, `metric` or `status`."""

    id: int
    type: str
    data: dict[str, Any]


class EvaluationState(RemoteJob):
    active_statuses: ClassVar = frozenset({"queued", "running", "cancelling"})
    _collection: ClassVar = "evaluations"

    @property
    def name(self) -> str:
        return str(self.raw["name"])

    @property
    def tags(self) -> list[str]:
        return list(self.raw["tags"])

    @property
    def notes(self) -> str:
        return str(self.raw["notes"])

    @property
    def progress(self) -> Progress:
        """done, total, fraction, eta_s, phase."""
        from unveil.app.report.evaluation import Progress

        return Progress.from_json(self.raw["progress"])

    @property
    def verdicts(self) -> list[EvaluationVerdict]:
        """One for each scheme: the worst case over its attacks."""
        from unveil.app.report.evaluation import EvaluationVerdict

        return [EvaluationVerdict.from_json(verdict) for verdict in self.raw["verdicts"]]

    @property
    def view(self) -> view.Evaluation:
        """The whole response, typed."""
        from unveil.app.report import evaluation as view

        return view.Evaluation.from_json(self.raw)

    @property
    def utility(self) -> list[UtilityJob]:
        """The utility of each scheme, one job for each, if it was requested."""
        from unveil.app.report.evaluation import UtilityJob

        return [UtilityJob.from_json(job) for job in self.raw.get("utility", [])]

    @property
    def cells(self) -> list[Cell]:
        """Scheme by scheme, attack by attack."""
        from unveil.app.report.evaluation import Cell

        return [Cell.from_json(cell) for cell in self.raw["cells"]]

    def table(self) -> EvaluationTable:
        """Schemes as rows, attacks as columns, with labels, figures and the reasons for empty cells."""
        from unveil.app.report.table import EvaluationTable  # brings the catalog

        return EvaluationTable(self.view)

    def to_pandas(self) -> pd.DataFrame:
        """One row a cell. Raises ModuleNotFoundError without pandas."""
        from unveil.app.report.frames import evaluation_frame

        return evaluation_frame(self.table())

    def to_latex(self) -> str:
        """A `tabular` of the package booktabs: schemes as rows, attacks as columns."""
        from unveil.app.report.latex import to_latex

        return to_latex(self.table())

    def plot(self) -> Plot:
        """The SSIM of every cell with its interval; a notebook shows it, `plot().save("ssim.svg")` writes it."""
        from unveil.app.report.plot import plot_ssim

        return plot_ssim(self.table())

    def _repr_html_(self) -> str:
        from unveil.app.report import notebook

        return notebook.render_table(self.table())

    def snapshot(self) -> ProgressSnapshot:
        now = self.progress
        eta = None if self.ended else now.eta_s
        tally = f"{now.done}/{now.total} cells"
        return ProgressSnapshot(now.fraction, now.phase or self.status, self.status, tally, eta)


async def _update(
    evaluation: EvaluationState,
    /,
    *,
    name: str | None = None,
    tags: Sequence[str] | None = None,
    notes: str | None = None,
) -> None:
    """Change the name, all tags or the notes; what is left out stays as it is."""
    body = {"name": name, "tags": None if tags is None else list(tags), "notes": notes}
    changes = {field: value for field, value in body.items() if value is not None}
    response = await evaluation._transport.request("PATCH", evaluation.path, json=changes)
    evaluation.raw, evaluation._etag = response.json(), response.headers.get("ETag")


async def _share(evaluation: EvaluationState, /, *, expires_in_days: int = 30, images: bool = True) -> ShareCreated:
    """A link with which everybody can read the evaluation: its `url`, in this answer only."""
    body = {"expires_in_days": expires_in_days, "images": images}
    response = await evaluation._transport.request("POST", f"{evaluation.path}/shares", json=body)
    share, config = response.json(), evaluation._transport.config
    return cast(ShareCreated, {**share, "url": config.url + config.path_of(share["url"])})


async def _shares(evaluation: EvaluationState, /) -> list[Share]:
    """Its links that have not expired, newest first, without their secrets."""
    return list((await evaluation._transport.request("GET", f"{evaluation.path}/shares")).json()["items"])


async def _revoke_share(evaluation: EvaluationState, /, id: str) -> None:
    """End a link at once."""
    await evaluation._transport.request("DELETE", f"{evaluation.path}/shares/{quote(id, safe='')}")


async def _events(evaluation: EvaluationState, /, after: int = 0) -> AsyncGenerator[Event]:
    """Its events as they happen, from the one after `after`, until it has ended. Reconnects by itself."""
    failures = 0
    while True:
        try:
            headers = {"Last-Event-ID": str(after)}
            async with evaluation._transport.stream_lines(f"{evaluation.path}/events", headers) as lines:
                fields: list[str] = []
                async for line in lines:
                    if line:
                        fields.append(line)
                        continue
                    event, fields = _parse_event(fields), []
                    if event is not None:
                        after, failures = event.id, 0
                        yield event
            await refresh(evaluation)
            if evaluation.ended:
                return
        except (httpx.TransportError, ServerProblem) as error:
            failures += 1
            if failures > _MAX_RECONNECTS:
                raise Unreachable(f"the event stream of {evaluation.id} was lost: {error}") from error
        await evaluation._transport.sleep(backoff_seconds(failures))


def _parse_event(lines: list[str]) -> Event | None:
    """A server-sent event out of its lines; None for a comment, which only keeps the line open."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        fields[name] = f"{fields[name]}\n{value}" if name in fields else value
    if not {"id", "data"} <= fields.keys():
        return None
    return Event(int(fields["id"]), fields.get("event", "message"), json.loads(fields["data"]))


async def _report(evaluation: EvaluationState, /, format: ReportFormat = "html", *, images: bool = True) -> bytes:
    """The report as bytes. images: False leaves them out, for a copy to share."""
    return await _fetch(evaluation, f"{evaluation.path}/report.{format}" + ("" if images else "?images=false"))


async def _fetch(evaluation: EvaluationState, /, link: str) -> bytes:
    """The bytes behind a link of this evaluation: a sample's PNG, scores.csv, a curve."""
    return (await evaluation._transport.request("GET", evaluation._transport.config.path_of(link))).content


async def _pixels(evaluation: EvaluationState, /, link: str) -> Pixels:
    """The image behind a link of a sample: uint8 [height, width, 3]."""
    return decode_rgb(await _fetch(evaluation, link))


class Evaluation(BlockingJob, EvaluationState):
    update = blocking(_update)
    share, shares, revoke_share = blocking(_share), blocking(_shares), blocking(_revoke_share)
    events = blocking_iterator(_events)
    report = blocking(_report)
    fetch = blocking(_fetch)
    pixels = blocking(_pixels)


class AsyncEvaluation(AsyncJob, EvaluationState):
    update, events, report, fetch, pixels = _update, _events, _report, _fetch, _pixels
    share, shares, revoke_share = _share, _shares, _revoke_share
