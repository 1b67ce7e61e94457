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
from unveil.app.report.image_grids import PAPER_FIGURES, ImageGrid, build_image_grids, build_strips, data_uri
from unveil.app.report.labels import label, title
from unveil.app.report.model import Report, SampleTriple
from unveil.app.report.tables import table_1, table_2, utility_table

_TEMPLATE_DIR = Path(__file__).parent
_TRIPLES_PER_READ = 8  # of a zip, read together
_CSS = (_TEMPLATE_DIR / "report.css").read_text()
# The page holds no script and loads nothing; its one style sheet is named by its hash.
_CONTENT_SECURITY_POLICY = (
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
HEADERS = {Format.HTML: {"Content-Security-Policy": f"{_CONTENT_SECURITY_POLICY}; frame-ancestors 'none'"}}


async def load_report(session: AsyncSession, evaluation: Evaluation, format: Format) -> Report:
    """What the report is made of: of the pictures, those on its page. Lets the connection go."""
    evaluation_out = await service.get_detail(session, evaluation)
    curves: dict[str, dict[str, Any]] = {}
    samples: dict[str, list[SampleTriple]] = {}
    ids = [*(cell.id for cell in evaluation_out.cells), *(job.id for job in evaluation_out.utility)]
    for curve in await queries.list_curves(session, ids):
        curves.setdefault(curve.cell_id, {})[curve.name] = curve.points
    report = Report(evaluation_out, curves, samples)
    if format in (Format.HTML, Format.ZIP):
        for row in await queries.list_sample_triples(session, ids):
            samples.setdefault(row.cell_id, []).append(SampleTriple(*row))
        displayed = {(triple.cell_id, triple.index): triple for triple in _displayed_triples(report)}
        for row in await _load_sample_images(session, list(displayed)):
            triple = displayed[row.cell_id, row.index]
            triple.plain, triple.protected, triple.reconstructed = row.plain, row.protected, row.reconstructed
    session.expunge_all()  # what was read stays readable
    await session.rollback()
    return report


async def render(report: Report, format: Format) -> bytes:
    """Any format but the zip."""
    return await asyncio.to_thread(_RENDERERS[format], report)


async def stream_zip(sessions: async_sessionmaker[AsyncSession], report: Report) -> AsyncIterator[bytes]:
    """The zip while it is written, for it may be gigabytes: a few triples are in memory at a time.

    Raises UnknownEvaluation where the evaluation is deleted meanwhile: half a zip must not look like a whole one.
    """
    buffer = _ZipBuffer()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        await asyncio.to_thread(_write_reports, archive, report)
        yield buffer.drain()
        for position, cell in enumerate(report.evaluation.cells):
            if cell.result is None:
                continue
            folder = f"cells/{position:03d}-{cell.scheme['name']}-{cell.attack['name']}"
            async with sessions() as session:
                scores = await scores_csv(session, cell.id)
            await asyncio.to_thread(_write_scores_and_curves, archive, folder, scores, report.curves.get(cell.id, {}))
            ids = [(triple.cell_id, triple.index) for triple in report.samples.get(cell.id, ())]
            for offset in range(0, len(ids), _TRIPLES_PER_READ):
                async with sessions() as session:
                    rows = await _load_sample_images(session, ids[offset : offset + _TRIPLES_PER_READ])
                await asyncio.to_thread(_write_sample_images, archive, folder, rows)
                yield buffer.drain()
    yield buffer.drain()


class _ZipBuffer(io.RawIOBase):
    """What a zip is written to: bytes that wait to be sent."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def write(self, part: Any) -> int:
        self._buffer += part
        return len(part)

    def drain(self) -> bytes:
        part, self._buffer = bytes(self._buffer), bytearray()
        return part


async def _load_sample_images(session: AsyncSession, ids: Sequence[tuple[str, int]]) -> Sequence[Any]:
    """Raises UnknownEvaluation where one is missing: they go with their evaluation only."""
    rows = await queries.list_sample_images(session, ids) if ids else []
    if len(rows) < len(set(ids)):
        raise service.UnknownEvaluation("the evaluation was deleted while its report was written")
    return rows


def _displayed_triples(report: Report) -> list[SampleTriple]:
    """The triples whose pictures are on the page: a few of thousands that may be stored."""
    grids = build_image_grids(report)
    grid_triples = [
        each for figure in grids for line in figure.rows for each in (line.sample, *line.triple_by_column.values())
    ]
    example_triples = [each for each in _example_triples(report, grids).values() if each is not None]
    return [
        *grid_triples,
        *example_triples,
        *(each for strip in build_strips(report, grids).values() for each in strip),
    ]


async def scores_csv(session: AsyncSession, cell_id: str) -> str:
    """One line an image; the header alone where a cell has no scores (yet)."""
    scores = await queries.get_scores(session, cell_id)
    lines: Iterable[Sequence[Any]] = ()
    if scores is not None:
        lines = zip(scores.index, scores.ssim, scores.psnr, scores.rank, strict=True)
    return _to_csv([("index", "ssim", "psnr", "rank"), *lines])


# --- one renderer a format --------------------------------------------------------------------------------------


def _render_json(report: Report) -> bytes:
    body = report.evaluation.model_dump(mode="json")
    for job in (*body["cells"], *body["utility"]):
        job["curves"] = report.curves.get(job["id"], {})
    tables = {"table_1": table_1(report), "table_2": table_2(report)}
    return json.dumps({**body, **tables, "order": report.request_body, "command": report.command}, indent=2).encode()


_CSV_COLUMNS = ("scheme", "attack", "threat_model", "status", "verdict", "ssim_mode", "ssim", "ssim_ci_low",
            "ssim_ci_high", "paper_ssim", "paper_robust", "psnr", "identification", "chance", "recognised",
            "key_space_bits", "effective_bits", "positive_control", "negative_control", "images", "seconds",
            "device", "note")  # fmt: skip


def _render_csv(report: Report) -> bytes:
    """One line a cell; the zip has the tables as the paper has them."""
    lines: list[Sequence[Any]] = [_CSV_COLUMNS]
    for row in report.requested_rows:
        for cell in row.cells:
            figures = cell.result.model_dump() if cell.result else {}
            ssim, psnr = figures.get("ssim") or {}, figures.get("psnr") or {}
            identification, controls = figures.get("identification") or {}, figures.get("controls") or {}
            note = cell.reason or (cell.error and f"{cell.error.code}: {cell.error.detail}") or ""
            lines.append(
                (
                    row.label,
                    label(cell.attack, report.profile),
                    cell.threat_model,
                    cell.status.value,
                    figures.get("verdict"),
                    ssim.get("mode"),
                    ssim.get("mean"),
                    ssim.get("ci_low"),
                    ssim.get("ci_high"),
                    figures.get("paper_ssim"),
                    row.paper.robust.get(cell.attack["name"]) if row.paper else None,
                    psnr.get("mean"),
                    identification.get("top1"),
                    identification.get("chance"),
                    (figures.get("recogniser") or {}).get("top1"),
                    figures.get("key_space_bits"),
                    figures.get("effective_bits"),
                    controls.get("positive"),
                    controls.get("negative"),
                    ssim.get("n"),
                    figures.get("seconds"),
                    figures.get("device"),
                    note,
                )
            )
    return _to_csv(lines).encode()


def _render_markdown(report: Report) -> bytes:
    return _load_template("report.md.j2").render(_template_context(report)).encode()


def _render_html(report: Report) -> bytes:
    grids = build_image_grids(report)
    strips_by_cell = build_strips(report, grids)
    names = {
        **_template_context(report),
        "css": _CSS,
        "policy": _CONTENT_SECURITY_POLICY,
        "figures": grids,
        "paper_figures": PAPER_FIGURES,
        "strips": strips_by_cell,
        "shown_triples": sum(map(len, strips_by_cell.values())),
        "stored_triples": sum(map(len, report.samples.values())),
        "examples": _example_triples(report, grids),
        "uri": data_uri,
        "space": charts.build_key_space_chart(
            [
                (row.title, cell.result.key_space_bits)
                for row in report.requested_rows
                if (cell := row.key_space) and cell.result and cell.result.key_space_bits
            ]
        ),
        "by_count": _ssim_by_count_charts(report),
        "training": _loss_charts(report),
    }
    return _load_template("report.html.j2").render(names).encode()


def _write_reports(archive: zipfile.ZipFile, report: Report) -> None:
    for format, rendered in _RENDERERS.items():
        archive.writestr(f"report.{format.value}", rendered(report))
    tables = {"table-1": table_1(report), "table-2": table_2(report), "utility": utility_table(report)}
    for name, table in tables.items():
        if table:
            archive.writestr(f"{name}.csv", _to_csv([list(table[0]), *(list(line.values()) for line in table)]))


def _write_scores_and_curves(archive: zipfile.ZipFile, folder: str, scores: str, curves: Mapping[str, Any]) -> None:
    archive.writestr(f"{folder}/scores.csv", scores)
    archive.writestr(f"{folder}/curves.json", json.dumps(curves))


def _write_sample_images(archive: zipfile.ZipFile, folder: str, rows: Sequence[Any]) -> None:
    for row in rows:
        for image_name in ("plain", "protected", "reconstructed"):
            image = getattr(row, image_name)
            if image is not None:
                archive.writestr(f"{folder}/samples/{row.index}-{image_name}.png", image)


_RENDERERS = {
    Format.HTML: _render_html,
    Format.JSON: _render_json,
    Format.CSV: _render_csv,
    Format.MD: _render_markdown,
}


def _to_csv(lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


# --- what the pages show ----------------------------------------------------------------------------------------


def _example_triples(report: Report, grids: Sequence[ImageGrid]) -> dict[str, SampleTriple | None]:
    """One triple beside each verdict: of the worst cell, of the first image that the figures show."""
    displayed_indices = {figure.sample.index for figure in grids[:1]}
    examples: dict[str, SampleTriple | None] = {}
    for row in report.requested_rows:
        cell = row.verdict_cell or next((cell for cell in row.cells if report.samples.get(cell.id)), None)
        candidates = [sample for sample in report.samples.get(cell.id, ()) if sample.plain_md5] if cell else []
        examples[row.label] = next(
            (sample for sample in candidates if sample.index in displayed_indices), next(iter(candidates), None)
        )
    return examples


def _ssim_by_count_charts(report: Report) -> list[charts.Chart]:
    """SSIM against the number of ciphertexts or pairs: one chart for each, schemes and attacks together."""
    curves: dict[str, dict[str, Any]] = {}
    for row in report.requested_rows:
        for cell in row.cells:
            for name, points in report.curves.get(cell.id, {}).items():
                if name.startswith("ssim_by_"):
                    unit = name.removeprefix("ssim_by_")
                    curves.setdefault(unit, {})[f"{title(cell.attack, row.profile)} on {row.title}"] = points
    plots = [
        charts.build_chart(f"SSIM by {unit}", unit, "SSIM", own, log=True, y_range=(_min_y(own), 1.0), size=(440, 260))
        for unit, own in curves.items()
    ]
    return [plot for plot in plots if plot is not None]


def _min_y(curves: Mapping[str, Any]) -> float:
    """0, or below it where an attack took the negative for the image."""
    values = [float(y) for points in curves.values() for _, y in points if y is not None]
    return math.floor(10 * min([0.0, *values])) / 10


def _loss_charts(report: Report) -> list[charts.Chart]:
    """Losses by epoch, a chart for each network."""
    plots = []
    for row in report.requested_rows:
        for cell in row.cells:
            losses = {name: points for name, points in report.curves.get(cell.id, {}).items() if "loss" in name}
            plots.append(
                charts.build_chart(f"{title(cell.attack, row.profile)} on {row.title}", "epoch", "loss", losses)
            )
    return [plot for plot in plots if plot is not None]


# --- templates --------------------------------------------------------------------------------------------------


def _template_context(report: Report) -> dict[str, Any]:
    evaluation = report.evaluation
    results = [cell.result for cell in evaluation.cells if cell.result]
    return {
        "report": report,
        "evaluation": evaluation,
        "settings": evaluation.settings,
        "sentences": narrative,
        "percent": narrative.format_percent,
        "title": title,
        "order_json": json.dumps(report.request_body, indent=2),
        "command": report.command,
        "images": max((result.ssim["n"] for result in results if result.ssim), default=0),
        "common_notes": _common_notes([result.notes for result in results if result.ssim]),
        "recognised": any(result.recogniser for result in results),
    }


def _common_notes(notes: Sequence[Sequence[str]]) -> list[str]:
    """What stands in every list of several."""
    return [note for note in notes[0] if all(note in other_notes for other_notes in notes)] if len(notes) > 1 else []


@cache
def _load_template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATE_DIR),
        autoescape=name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["figure"] = _format_number
    environment.filters["line"] = lambda text: " ".join(
        str(text).replace("|", "\\|").split()
    )  # a Markdown table's cell
    return environment.get_template(name)


def _format_number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
