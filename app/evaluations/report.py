"""The report of an evaluation in every format, from rows alone: html, json, csv, md, zip."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.states import ENDED
from app.db.tables import Evaluation, Sample
from app.evaluations import queries, service, views
from app.evaluations.schemas import CellOut, EvaluationOut
from models import catalog


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
HEADERS = {
    Format.HTML: {"Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'"},
}

_STRIPS = 6  # triples a cell on the page; the zip has them all
_WIDTH, _HEIGHT = 320, 120  # of a curve, in SVG units


async def render(session: AsyncSession, evaluation: Evaluation, format: Format) -> bytes:
    out = await service.show(session, evaluation)
    curves: dict[str, dict[str, Any]] = {}
    samples: dict[str, list[Sample]] = {}
    scores: dict[str, str] = {}
    ids = [cell.id for cell in out.cells]
    for curve in await queries.curves(session, ids):
        curves.setdefault(curve.cell_id, {})[curve.name] = curve.points
    if format in (Format.HTML, Format.ZIP):
        for sample in await queries.samples(session, ids):
            samples.setdefault(sample.cell_id, []).append(sample)
    if format is Format.ZIP:
        for id in ids:
            scores[id] = await scores_csv(session, id)
    session.expunge_all()  # what was read stays readable
    await session.rollback()  # rendering holds no connection
    report = Report(out, curves, samples, scores)
    return await asyncio.to_thread(_RENDERERS[format], report)


async def scores_csv(session: AsyncSession, cell_id: str) -> str:
    """One line an image; the header alone where a cell has no scores (yet)."""
    scores = await queries.scores(session, cell_id)
    lines: Iterable[Sequence[Any]] = ()
    if scores is not None:
        lines = zip(scores.index, scores.ssim, scores.psnr, scores.rank, strict=True)
    return _csv([("index", "ssim", "psnr", "rank"), *lines])


@dataclass(frozen=True)
class Report:
    evaluation: EvaluationOut
    curves: Mapping[str, Mapping[str, Any]]  # by cell id
    samples: Mapping[str, Sequence[Sample]]
    scores: Mapping[str, str]

    @property
    def attacks(self) -> list[str]:
        """Labels of the attacks that make images, in order."""
        labels = (label(cell.attack) for cell in self.evaluation.cells if cell.attack["name"] != "brute-force")
        return list(dict.fromkeys(labels))

    @property
    def schemes(self) -> list[SchemeRow]:
        rows: dict[str, list[CellOut]] = {}
        for cell in self.evaluation.cells:
            rows.setdefault(json.dumps(cell.scheme, sort_keys=True), []).append(cell)
        verdicts = {json.dumps(v.scheme, sort_keys=True): v for v in self.evaluation.verdicts}
        return [
            SchemeRow(label(cells[0].scheme), verdicts[key].model_dump(), cells, _paper(cells[0].scheme))
            for key, cells in rows.items()
        ]

    @property
    def finished(self) -> bool:
        return self.evaluation.status in ENDED

    @property
    def order(self) -> dict[str, Any]:
        """What to POST to get the same evaluation again."""
        settings = dict(self.evaluation.settings)
        settings["attacks"] = [{k: v for k, v in a.items() if k != "added"} for a in settings["attacks"]]
        return settings


@dataclass(frozen=True)
class SchemeRow:
    """A scheme's line in the tables."""

    label: str
    verdict: dict[str, Any]
    cells: Sequence[CellOut]
    paper: Mapping[str, Any] | None

    def under(self, attack: str) -> CellOut | None:
        return next((cell for cell in self.cells if label(cell.attack) == attack), None)

    @property
    def key_space(self) -> CellOut | None:
        return next((cell for cell in self.cells if cell.attack["name"] == "brute-force"), None)


def label(entry: Mapping[str, Any]) -> str:
    """A scheme or attack with the settings that differ from the paper's: `tanaka (variant=icce2018)`."""
    name = entry["name"]
    if name == catalog.EXTERNAL:
        return f"{name} ({entry['dataset']})"
    make = catalog.make_scheme if name in catalog.schemes() else catalog.make_attack
    default = catalog.settings_of(make(name, {}))
    told = [str(v) if isinstance(v, str) else f"{k}={json.dumps(v)}" for k, v in entry.items() if v != default.get(k)]
    if name == "pixelwise":  # the paper's two rows
        told = [entry["key_mode"] + " keys" if entry["key_mode"] == "different" else "same key"] + [
            t for t in told if t not in ("same", "different")
        ]
    return f"{name} ({', '.join(told)})" if told else name


def _paper(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    paper = views.paper_of(entry)
    return None if paper is None else dict(vars(paper))


# --- one renderer a format --------------------------------------------------------------------------------------


def _json(report: Report) -> bytes:
    body = report.evaluation.model_dump(mode="json")
    for cell in body["cells"]:
        cell["curves"] = report.curves.get(cell["id"], {})
    return json.dumps({**body, "order": report.order}, indent=2).encode()


_COLUMNS = ("scheme", "attack", "threat_model", "status", "verdict", "ssim_mode", "ssim", "ssim_ci_low", "ssim_ci_high",
            "paper_ssim", "psnr", "identification", "chance", "key_space_bits", "effective_bits", "positive_control",
            "negative_control", "images", "seconds", "device", "note")  # fmt: skip


def _table(report: Report) -> bytes:
    lines: list[Sequence[Any]] = [_COLUMNS]
    for cell in report.evaluation.cells:
        figures = cell.result.model_dump() if cell.result else {}
        ssim, psnr = figures.get("ssim") or {}, figures.get("psnr") or {}
        seen, controls = figures.get("identification") or {}, figures.get("controls") or {}
        note = cell.reason or (cell.error and f"{cell.error.code}: {cell.error.detail}") or ""
        lines.append(
            (label(cell.scheme), label(cell.attack), cell.threat_model, cell.status.value, figures.get("verdict"),
             ssim.get("mode"), ssim.get("mean"), ssim.get("ci_low"), ssim.get("ci_high"), figures.get("paper_ssim"),
             psnr.get("mean"), seen.get("top1"), seen.get("chance"), figures.get("key_space_bits"),
             figures.get("effective_bits"), controls.get("positive"), controls.get("negative"), ssim.get("n"),
             figures.get("seconds"), figures.get("device"), note)
        )  # fmt: skip
    return _csv(lines).encode()


def _markdown(report: Report) -> bytes:
    return _template("report.md.j2").render(_names(report)).encode()


def _html(report: Report) -> bytes:
    return _template("report.html.j2").render(_names(report)).encode()


def _zip(report: Report) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for format in (Format.HTML, Format.JSON, Format.CSV, Format.MD):
            archive.writestr(f"report.{format.value}", _RENDERERS[format](report))
        for position, cell in enumerate(report.evaluation.cells):
            folder = f"cells/{position:03d}-{cell.scheme['name']}-{cell.attack['name']}"
            if cell.result is None:
                continue
            archive.writestr(f"{folder}/scores.csv", report.scores[cell.id])
            archive.writestr(f"{folder}/curves.json", json.dumps(report.curves.get(cell.id, {})))
            for sample in report.samples.get(cell.id, ()):
                for picture in ("plain", "protected", "reconstructed"):
                    image = getattr(sample, picture)
                    if image is not None:
                        archive.writestr(f"{folder}/samples/{sample.index}-{picture}.png", image)
    return body.getvalue()


_RENDERERS = {
    Format.HTML: _html,
    Format.JSON: _json,
    Format.CSV: _table,
    Format.MD: _markdown,
    Format.ZIP: _zip,
}


def _csv(lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


# --- templates --------------------------------------------------------------------------------------------------


def _names(report: Report) -> dict[str, Any]:
    evaluation = report.evaluation
    return {
        "report": report,
        "evaluation": evaluation,
        "settings": {k: v for k, v in evaluation.settings.items() if k not in ("schemes", "attacks")},
        "order_json": json.dumps(report.order, indent=2),
        "label": label,
        "uri": _uri,
        "strips": {cell.id: _spread(report.samples.get(cell.id, ())) for cell in evaluation.cells},
        "plots": {
            cell_id: {name: _plot(points) for name, points in curves.items()}
            for cell_id, curves in report.curves.items()
        },
    }


def _uri(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode()


def _spread(samples: Sequence[Sample]) -> Sequence[Sample]:
    """At most _STRIPS of them, worst and best included."""
    if len(samples) <= _STRIPS:
        return samples
    return [samples[i * (len(samples) - 1) // (_STRIPS - 1)] for i in range(_STRIPS)]


def _plot(points: Sequence[Sequence[float | None]]) -> dict[str, Any] | None:
    """A curve as the points of an SVG polyline, with its ranges."""
    known = [(x, y) for x, y in points if x is not None and y is not None]
    if len(known) < 2:
        return None
    xs, ys = [x for x, _ in known], [y for _, y in known]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    across, up = (right - left) or 1, (high - low) or 1
    line = " ".join(f"{(x - left) / across * _WIDTH:.1f},{_HEIGHT - (y - low) / up * _HEIGHT:.1f}" for x, y in known)
    return {"line": line, "left": left, "right": right, "low": low, "high": high, "width": _WIDTH, "height": _HEIGHT}


@cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
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
