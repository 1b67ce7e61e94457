"""The report in every format: html, json, csv, md, pdf, and the parts of a zip."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import jinja2

from unveil.app.report import charts, narrative, pdf
from unveil.app.report.image_grids import PAPER_FIGURES, ImageStore, build_image_grids, build_strips
from unveil.app.report.labels import NO_VALUE, format_number, format_percent
from unveil.app.report.model import Report, SampleTriple
from unveil.app.report.paper_tables import table_1, table_2, utility_table
from unveil.app.report.proof_image import ProofImage, proof_image
from unveil.app.report.references import Reference
from unveil.app.report.table import TableCell
from unveil.models.core.cell_result import CellResult

TEMPLATE_DIR = Path(__file__).parent
CSS = (TEMPLATE_DIR / "report.css").read_text(encoding="utf-8")
# The page has no script and loads nothing. The policy names its one style sheet by its hash.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; img-src data:; style-src "
    f"'sha256-{base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()}'; base-uri 'none'; form-action 'none'"
)


class Format(StrEnum):
    HTML = "html"
    JSON = "json"
    CSV = "csv"
    MD = "md"
    PDF = "pdf"
    ZIP = "zip"


SIGNED = (Format.HTML, Format.JSON, Format.MD, Format.PDF)  # a CSV file has no place for a signature
MEDIA_TYPES = {
    Format.HTML: "text/html",
    Format.JSON: "application/json",
    Format.CSV: "text/csv",
    Format.MD: "text/markdown",
    Format.PDF: "application/pdf",
    Format.ZIP: "application/zip",
}
HEADERS = {Format.HTML: {"Content-Security-Policy": f"{_CONTENT_SECURITY_POLICY}; frame-ancestors 'none'"}}


def render(report: Report, format: Format) -> bytes:
    """Every format except zip. Raises PdfUnavailable."""
    return pdf.render(_render_html(report), report) if format is Format.PDF else _RENDERERS[format](report)


def displayed_triples(report: Report) -> list[SampleTriple]:
    """The triples whose images are on the page: a few of possibly thousands."""
    grids = build_image_grids(report)
    in_grids = [each for grid in grids for row in grid.rows for each in (row.sample, *row.triple_by_column.values())]
    proofs = [proof.sample for proof in _proof_images(report).values() if proof is not None]
    return [*in_grids, *proofs, *(each for strip in build_strips(report, grids).values() for each in strip)]


def scores_csv(scores: Any) -> str:
    """One line for each image, below a header. scores: sequences with these names; None if there are none (yet)."""
    names, lines = ("index", "ssim", "psnr", "rank", "vif"), list[Sequence[Any]]()
    if scores is not None:
        columns = [getattr(scores, name) for name in names]
        lines = [*zip_longest(*(() if column is None else column for column in columns))]  # vif may be None
    return _to_csv([names, *lines])


def write_reports(archive: zipfile.ZipFile, report: Report, sign: Callable[[bytes], bytes] | None = None) -> None:
    """The report in all formats but PDF, and its tables as CSV. sign: for the formats that hold a signature."""
    for format, renderer in _RENDERERS.items():
        content = renderer(report)
        archive.writestr(f"report.{format.value}", sign(content) if sign and format in SIGNED else content)
    tables = {"table-1": table_1, "table-2": table_2, "utility": utility_table}
    for name, build in tables.items():
        lines = build(report.table)
        if lines:
            archive.writestr(f"{name}.csv", _to_csv([list(lines[0]), *(list(line.values()) for line in lines)]))


def write_scores_and_curves(archive: zipfile.ZipFile, folder: str, scores: str, curves: Mapping[str, Any]) -> None:
    archive.writestr(f"{folder}/scores.csv", scores)
    archive.writestr(f"{folder}/curves.json", json.dumps(curves))


def write_sample_images(archive: zipfile.ZipFile, folder: str, triples: Sequence[Any]) -> None:
    for triple in triples:
        for name in ("plain", "protected", "reconstructed"):
            image = getattr(triple, name)
            if image is not None:
                archive.writestr(f"{folder}/samples/{triple.index}-{name}.png", image)


# --- one renderer a format --------------------------------------------------------------------------------------


def _render_json(report: Report) -> bytes:
    body = report.evaluation.to_json()
    for job in (*body["cells"], *body["utility"]):
        job["curves"] = report.curves.get(job["id"], {})
    tables = {"table_1": table_1(report.table), "table_2": table_2(report.table)}
    return json.dumps({**body, **tables, "order": report.request_body, "command": report.command}, indent=2).encode()


def _render_csv(report: Report) -> bytes:
    """One line for each cell; the zip also has the tables in the paper's layout."""
    lines = [_csv_line(row.label, cell) for row in report.table.rows for cell in row.cells]
    return _to_csv([list(lines[0]), *(list(line.values()) for line in lines)]).encode()


def _csv_line(scheme: str, cell: TableCell) -> dict[str, Any]:
    job, result = cell.cell, cell.result
    assert job is not None
    ssim, identification = (result.ssim, result.identification) if result else (None, None)
    controls = result.controls if result else None
    note = job.reason or (f"{job.error.code}: {job.error.detail}" if job.error else "")
    return {
        "scheme": scheme,
        "attack": cell.column.label,
        "threat_model": cell.column.threat_model,
        "requested": cell.column.requested,
        "status": job.status,
        "verdict": cell.verdict,
        "ssim_mode": ssim.mode if ssim else None,
        "ssim": ssim.mean if ssim else None,
        "ssim_ci_low": ssim.ci_low if ssim else None,
        "ssim_ci_high": ssim.ci_high if ssim else None,
        "paper_ssim": result.paper_ssim if result else None,
        "paper_robust": cell.paper_robust,
        "psnr": result.psnr.mean if result and result.psnr else None,
        "vif": result.vif.mean if result and result.vif else None,
        "d_c": result.assembly.direct if result and result.assembly else None,
        "n_c": result.assembly.neighbour if result and result.assembly else None,
        "l_c": result.assembly.largest if result and result.assembly else None,
        "identification": identification.top1 if identification else None,
        "chance": identification.chance if identification else None,
        "linkage": result.linkage.top1 if result and result.linkage else None,
        "comparison": job.comparison,
        "leaking_images": " ".join(map(str, job.leaking_images)),
        "recognised": result.recogniser.top1 if result and result.recogniser else None,
        "key_space_bits": result.key_space_bits if result else None,
        "effective_bits": result.effective_bits if result else None,
        "positive_control": controls.positive if controls else None,
        "negative_control": controls.negative if controls else None,
        "images": ssim.n if ssim else None,
        "seconds": result.seconds if result else None,
        "device": result.device if result else None,
        "note": note,
    }


def _render_markdown(report: Report) -> bytes:
    return load_template("report.md.j2").render(_template_context(report)).encode()


def _render_html(report: Report) -> bytes:
    grids = build_image_grids(report)
    strips_by_cell = build_strips(report, grids)
    context = {
        **_template_context(report),
        "css": CSS,
        "policy": _CONTENT_SECURITY_POLICY,
        "grids": grids,
        "paper_figures": PAPER_FIGURES,
        "strips": strips_by_cell,
        "shown_triples": sum(map(len, strips_by_cell.values())),
        "stored_triples": sum(map(len, report.samples.values())),
        "proofs": _proof_images(report),
        "image_store": ImageStore(),
        "key_space": charts.build_key_space_chart(
            [
                (row.title, cell.result.key_space_bits)
                for row in report.table.rows
                if (cell := row.key_space) and cell.result and cell.result.key_space_bits
            ]
        ),
        "ssim_charts": _ssim_charts(report),
        "loss_charts": _loss_charts(report),
    }
    return load_template("report.html.j2").render(context).encode()


_RENDERERS = {
    Format.HTML: _render_html,
    Format.JSON: _render_json,
    Format.CSV: _render_csv,
    Format.MD: _render_markdown,
}


def _to_csv(lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(map(escape_csv, line) for line in lines)
    return text.getvalue()


def escape_csv(cell: object) -> object:
    """Put an apostrophe before text that a spreadsheet would compute as a formula; numbers stay as they are."""
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) and not _is_number(cell):
        return f"'{cell}"
    return cell


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", text, re.ASCII) is not None


def escape_markdown(text: object) -> str:
    """One line that Markdown renders as this text: no markup, no HTML, no link."""
    return re.sub(r"[\\`*_~\[\]<>|&#!@]|:(?=//)|(?<=www)\.", r"\\\g<0>", " ".join(str(text).split()))


# --- what the pages show ----------------------------------------------------------------------------------------


def _proof_images(report: Report) -> dict[str, ProofImage[SampleTriple] | None]:
    """By the label of the scheme. Without an original there is nothing to compare with."""

    def samples_of(cell: TableCell) -> list[SampleTriple]:
        return [triple for triple in report.samples_of(cell) if triple.plain_md5]

    return {row.label: proof_image(row, samples_of) for row in report.table.rows}


def _ssim_charts(report: Report) -> list[charts.Chart]:
    """SSIM against the number of ciphertexts or pairs: a chart for each unit, schemes and attacks together."""
    by_unit: dict[str, dict[str, charts.Points]] = {}
    for name, curves in _curves_by_cell(report):
        for unit, points in charts.ssim_curves(curves).items():
            by_unit.setdefault(unit, {})[name] = points
    plots = [charts.build_ssim_chart(unit, curves, size=(440, 260)) for unit, curves in by_unit.items()]
    return [plot for plot in plots if plot is not None]


def _loss_charts(report: Report) -> list[charts.Chart]:
    """Losses by epoch, a chart for each network."""
    plots = [
        charts.build_chart(name, "epoch", "loss", charts.loss_curves(curves))
        for name, curves in _curves_by_cell(report)
    ]
    return [plot for plot in plots if plot is not None]


def _curves_by_cell(report: Report) -> list[tuple[str, Mapping[str, charts.Points]]]:
    return [(title, report.curves[id]) for id, title in report.table.cell_titles.items() if id in report.curves]


# --- templates --------------------------------------------------------------------------------------------------


def _template_context(report: Report) -> dict[str, Any]:
    results = [cell.result for cell in report.evaluation.cells if cell.result]
    return {
        "report": report,
        "table": report.table,
        "evaluation": report.evaluation,
        "settings": report.evaluation.settings,
        "sentences": narrative,
        "percent": format_percent,
        "no_value": NO_VALUE,
        "request_json": json.dumps(report.request_body, indent=2),
        "command": report.command,
        "images": max((result.ssim.n for result in results if result.ssim), default=0),
        "common_notes": common_notes(results),
        "recognised": any(result.recogniser for result in results),
        "references": report.references,
    }


def common_notes(results: Sequence[CellResult]) -> list[str]:
    """The notes that all of several scored results have."""
    notes = [result.notes for result in results if result.ssim]
    return [note for note in notes[0] if all(note in others for others in notes)] if len(notes) > 1 else []


@cache
def load_template(name: str) -> jinja2.Template:
    """A template of this package; HTML is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE_DIR),
        autoescape=name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["figure"] = format_number
    environment.filters["in_row"] = lambda column, row: row.cell_for(column)
    environment.filters["bibtex"] = Reference.to_bibtex
    environment.filters["line"] = escape_markdown
    return environment.get_template(name)
