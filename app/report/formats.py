"""The report in every format: html, json, csv, md, zip."""

from __future__ import annotations

import asyncio
import base64
import csv
import hashlib
import io
import json
import math
import zipfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from unveil.app.db.tables import Evaluation
from unveil.app.evaluations import queries, service
from unveil.app.report import charts, narrative
from unveil.app.report.image_grids import PAPER_FIGURES, Figure, figures, strips, uri
from unveil.app.report.labels import label, title
from unveil.app.report.model import Report, Triple
from unveil.app.report.tables import table_1, table_2, utility

_HERE = Path(__file__).parent
_TRIPLES = 8  # of a zip, read together
_CSS = (_HERE / "report.css").read_text()
# The page holds no script and loads nothing; its one style sheet is named by its hash.
_POLICY = (
    "default-src 'none'; img-src data:; style-src "
    f"'sha256-{base64.b64encode(hashlib.sha256(_CSS.encode()).digest()).decode()}'; base-uri 'none'; form-action 'none'"
)


class Format(StrEnum):
    HTML = "html"
    JSON = "json"
    CSV = "csv"
    MD = "md"
    ZIP = "zip"


MEDIA_TYPES = {
    Format.HTML: "text/html",
    Format.JSON: "application/json",
    Format.CSV: "text/csv",
    Format.MD: "text/markdown",
    Format.ZIP: "application/zip",
}
HEADERS = {Format.HTML: {"Content-Security-Policy": f"{_POLICY}; frame-ancestors 'none'"}}


async def read(session: AsyncSession, evaluation: Evaluation, format: Format) -> Report:
    """What the report is made of: of the pictures, those on its page. Lets the connection go."""
    out = await service.show(session, evaluation)
    curves: dict[str, dict[str, Any]] = {}
    samples: dict[str, list[Triple]] = {}
    ids = [*(cell.id for cell in out.cells), *(job.id for job in out.utility)]
    for curve in await queries.curves(session, ids):
        curves.setdefault(curve.cell_id, {})[curve.name] = curve.points
    report = Report(out, curves, samples)
    if format in (Format.HTML, Format.ZIP):
        for row in await queries.triples(session, ids):
            samples.setdefault(row.cell_id, []).append(Triple(*row))
        shown = {(triple.cell_id, triple.index): triple for triple in _shown(report)}
        for row in await _pictures(session, list(shown)):
            triple = shown[row.cell_id, row.index]
            triple.plain, triple.protected, triple.reconstructed = row.plain, row.protected, row.reconstructed
    session.expunge_all()  # what was read stays readable
    await session.rollback()
    return report


async def render(report: Report, format: Format) -> bytes:
    """Any format but the zip."""
    return await asyncio.to_thread(_RENDERERS[format], report)


async def zipped(sessions: async_sessionmaker[AsyncSession], report: Report) -> AsyncIterator[bytes]:
    """The zip while it is written, for it may be gigabytes: a few triples are in memory at a time.

    Raises UnknownEvaluation where the evaluation is deleted meanwhile: half a zip must not look like a whole one.
    """
    written = _Written()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        await asyncio.to_thread(_write_pages, archive, report)
        yield written.taken()
        for position, cell in enumerate(report.evaluation.cells):
            if cell.result is None:
                continue
            folder = f"cells/{position:03d}-{cell.scheme['name']}-{cell.attack['name']}"
            async with sessions() as session:
                scores = await scores_csv(session, cell.id)
            await asyncio.to_thread(_write_numbers, archive, folder, scores, report.curves.get(cell.id, {}))
            ids = [(triple.cell_id, triple.index) for triple in report.samples.get(cell.id, ())]
            for at in range(0, len(ids), _TRIPLES):
                async with sessions() as session:
                    rows = await _pictures(session, ids[at : at + _TRIPLES])
                await asyncio.to_thread(_write_pictures, archive, folder, rows)
                yield written.taken()
    yield written.taken()


class _Written(io.RawIOBase):
    """What a zip is written to: bytes that wait to be sent."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def write(self, part: Any) -> int:
        self._waiting += part
        return len(part)

    def taken(self) -> bytes:
        part, self._waiting = bytes(self._waiting), bytearray()
        return part


async def _pictures(session: AsyncSession, ids: Sequence[tuple[str, int]]) -> Sequence[Any]:
    """Raises UnknownEvaluation where one is missing: they go with their evaluation only."""
    rows = await queries.pictures(session, ids) if ids else []
    if len(rows) < len(set(ids)):
        raise service.UnknownEvaluation("the evaluation was deleted while its report was written")
    return rows


def _shown(report: Report) -> list[Triple]:
    """The triples whose pictures are on the page: a few of thousands that may be stored."""
    chosen = figures(report)
    of_figures = [each for figure in chosen for line in figure.lines for each in (line.first, *line.seen.values())]
    examples = [each for each in _examples(report, chosen).values() if each is not None]
    return [*of_figures, *examples, *(each for strip in strips(report, chosen).values() for each in strip)]


async def scores_csv(session: AsyncSession, cell_id: str) -> str:
    """One line an image; the header alone where a cell has no scores (yet)."""
    scores = await queries.scores(session, cell_id)
    lines: Iterable[Sequence[Any]] = ()
    if scores is not None:
        lines = zip(scores.index, scores.ssim, scores.psnr, scores.rank, strict=True)
    return _csv([("index", "ssim", "psnr", "rank"), *lines])


# --- one renderer a format --------------------------------------------------------------------------------------


def _json(report: Report) -> bytes:
    body = report.evaluation.model_dump(mode="json")
    for job in (*body["cells"], *body["utility"]):
        job["curves"] = report.curves.get(job["id"], {})
    tables = {"table_1": table_1(report), "table_2": table_2(report)}
    return json.dumps({**body, **tables, "order": report.order, "command": report.command}, indent=2).encode()


_COLUMNS = ("scheme", "attack", "threat_model", "status", "verdict", "ssim_mode", "ssim", "ssim_ci_low",
            "ssim_ci_high", "paper_ssim", "paper_robust", "psnr", "identification", "chance", "recognised",
            "key_space_bits", "effective_bits", "positive_control", "negative_control", "images", "seconds",
            "device", "note")  # fmt: skip


def _cells_csv(report: Report) -> bytes:
    """One line a cell; the zip has the tables as the paper has them."""
    lines: list[Sequence[Any]] = [_COLUMNS]
    for row in report.ordered:
        for cell in row.cells:
            figures = cell.result.model_dump() if cell.result else {}
            ssim, psnr = figures.get("ssim") or {}, figures.get("psnr") or {}
            seen, controls = figures.get("identification") or {}, figures.get("controls") or {}
            note = cell.reason or (cell.error and f"{cell.error.code}: {cell.error.detail}") or ""
            lines.append(
                (row.label, label(cell.attack, report.profile), cell.threat_model, cell.status.value,
                 figures.get("verdict"), ssim.get("mode"), ssim.get("mean"), ssim.get("ci_low"), ssim.get("ci_high"),
                 figures.get("paper_ssim"), row.paper.robust.get(cell.attack["name"]) if row.paper else None,
                 psnr.get("mean"), seen.get("top1"), seen.get("chance"), (figures.get("recogniser") or {}).get("top1"),
                 figures.get("key_space_bits"), figures.get("effective_bits"), controls.get("positive"),
                 controls.get("negative"), ssim.get("n"), figures.get("seconds"), figures.get("device"), note)
            )  # fmt: skip
    return _csv(lines).encode()


def _markdown(report: Report) -> bytes:
    return _template("report.md.j2").render(_names(report)).encode()


def _html(report: Report) -> bytes:
    shown = figures(report)
    chosen = strips(report, shown)
    names = {
        **_names(report),
        "css": _CSS,
        "policy": _POLICY,
        "figures": shown,
        "paper_figures": PAPER_FIGURES,
        "strips": chosen,
        "shown_triples": sum(map(len, chosen.values())),
        "stored_triples": sum(map(len, report.samples.values())),
        "examples": _examples(report, shown),
        "uri": uri,
        "space": charts.key_space(
            [
                (row.title, cell.result.key_space_bits)
                for row in report.ordered
                if (cell := row.key_space) and cell.result and cell.result.key_space_bits
            ]
        ),
        "by_count": _by_count(report),
        "training": _training(report),
    }
    return _template("report.html.j2").render(names).encode()


def _write_pages(archive: zipfile.ZipFile, report: Report) -> None:
    for format, rendered in _RENDERERS.items():
        archive.writestr(f"report.{format.value}", rendered(report))
    tables = {"table-1": table_1(report), "table-2": table_2(report), "utility": utility(report)}
    for name, table in tables.items():
        if table:
            archive.writestr(f"{name}.csv", _csv([list(table[0]), *(list(line.values()) for line in table)]))


def _write_numbers(archive: zipfile.ZipFile, folder: str, scores: str, curves: Mapping[str, Any]) -> None:
    archive.writestr(f"{folder}/scores.csv", scores)
    archive.writestr(f"{folder}/curves.json", json.dumps(curves))


def _write_pictures(archive: zipfile.ZipFile, folder: str, rows: Sequence[Any]) -> None:
    for row in rows:
        for picture in ("plain", "protected", "reconstructed"):
            image = getattr(row, picture)
            if image is not None:
                archive.writestr(f"{folder}/samples/{row.index}-{picture}.png", image)


_RENDERERS = {
    Format.HTML: _html,
    Format.JSON: _json,
    Format.CSV: _cells_csv,
    Format.MD: _markdown,
}


def _csv(lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


# --- what the pages show ----------------------------------------------------------------------------------------


def _examples(report: Report, shown: Sequence[Figure]) -> dict[str, Triple | None]:
    """One triple beside each verdict: of the worst cell, of the first image that the figures show."""
    wanted = {figure.first.index for figure in shown[:1]}
    examples: dict[str, Triple | None] = {}
    for row in report.ordered:
        cell = row.worst or next((cell for cell in row.cells if report.samples.get(cell.id)), None)
        stored = [sample for sample in report.samples.get(cell.id, ()) if sample.plain_sum] if cell else []
        examples[row.label] = next((sample for sample in stored if sample.index in wanted), next(iter(stored), None))
    return examples


def _by_count(report: Report) -> list[charts.Chart]:
    """SSIM against the number of ciphertexts or pairs: one chart for each, schemes and attacks together."""
    curves: dict[str, dict[str, Any]] = {}
    for row in report.ordered:
        for cell in row.cells:
            for name, points in report.curves.get(cell.id, {}).items():
                if name.startswith("ssim_by_"):
                    unit = name.removeprefix("ssim_by_")
                    curves.setdefault(unit, {})[f"{title(cell.attack, row.profile)} on {row.title}"] = points
    plots = [
        charts.chart(f"SSIM by {unit}", unit, "SSIM", own, log=True, between=(_lowest(own), 1.0), size=(440, 260))
        for unit, own in curves.items()
    ]
    return [plot for plot in plots if plot is not None]


def _lowest(curves: Mapping[str, Any]) -> float:
    """0, or below it where an attack took the negative for the image."""
    values = [float(y) for points in curves.values() for _, y in points if y is not None]
    return math.floor(10 * min([0.0, *values])) / 10


def _training(report: Report) -> list[charts.Chart]:
    """Losses by epoch, a chart for each network."""
    plots = []
    for row in report.ordered:
        for cell in row.cells:
            losses = {name: points for name, points in report.curves.get(cell.id, {}).items() if "loss" in name}
            plots.append(charts.chart(f"{title(cell.attack, row.profile)} on {row.title}", "epoch", "loss", losses))
    return [plot for plot in plots if plot is not None]


# --- templates --------------------------------------------------------------------------------------------------


def _names(report: Report) -> dict[str, Any]:
    evaluation = report.evaluation
    results = [cell.result for cell in evaluation.cells if cell.result]
    return {
        "report": report,
        "evaluation": evaluation,
        "settings": evaluation.settings,
        "sentences": narrative,
        "percent": narrative.percent,
        "title": title,
        "order_json": json.dumps(report.order, indent=2),
        "command": report.command,
        "images": max((result.ssim["n"] for result in results if result.ssim), default=0),
        "common_notes": _common([result.notes for result in results if result.ssim]),
        "recognised": any(result.recogniser for result in results),
    }


def _common(notes: Sequence[Sequence[str]]) -> list[str]:
    """What stands in every list of several."""
    return [note for note in notes[0] if all(note in others for others in notes)] if len(notes) > 1 else []


@cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["figure"] = _figure
    environment.filters["line"] = lambda text: " ".join(
        str(text).replace("|", "\\|").split()
    )  # a Markdown table's cell
    return environment.get_template(name)


def _figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
