"""The report as PDF: the HTML page, typeset by Typst.

Typst receives the page as a tree of elements in JSON and its images as files (`report.typ` lays them out), so no text
of the page can become markup. It needs neither a browser nor the network nor system packages.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from unveil.app.errors.problem import PdfUnavailable
from unveil.app.report.model import Report, results_sha256

_TEMPLATE = Path(__file__).with_name("report.typ")
_CSS = Path(__file__).with_name("report.css")
_SKIPPED = frozenset({"head", "nav", "script", "style"})
_BLOCKS = frozenset(
    {"body", "html", "header", "main", "section", "div", "figure", "details", "ul", "ol", "dl", "table", "thead"}
    | {"tbody", "tr"}
)
_VOID = frozenset({"meta", "link", "use", "image", "br"})
_DATA_URI = "data:image/png;base64,"
_LONG_WORD = re.compile(r"\S{72,}")
_WORD_PART = 24  # characters between two places where a long word may break


def render(page: bytes, report: Report) -> bytes:
    """page: the report as HTML. Raises PdfUnavailable."""
    try:
        import typst
    except ModuleNotFoundError:
        raise PdfUnavailable("PDF needs Typst: install unveil[pdf], or print report.html from a browser") from None
    parser = _PageParser()
    parser.feed(page.decode())
    evaluation = report.evaluation
    document = {
        "title": evaluation.name,
        "author": report.auditor or "",
        "footer": f"{evaluation.id} · results SHA-256 {results_sha256(evaluation.cells)[:16]}…",
        "body": parser.root["children"],
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for id, png in parser.images.items():
            (root / f"{id}.png").write_bytes(png)
        (root / "report.json").write_text(json.dumps(document), encoding="utf-8")
        (root / "report.typ").write_bytes(_TEMPLATE.read_bytes())
        created_at = int(evaluation.created_at.timestamp())
        content = typst.compile(root / "report.typ", root=root, format="pdf", timestamp=created_at)
    assert isinstance(content, bytes)
    return content


class _PageParser(HTMLParser):
    """Elements as {"tag", "class", "attributes", "children"}; a chart has "svg" and "width" too."""

    def __init__(self) -> None:
        super().__init__()
        self.root: dict[str, Any] = {"tag": "body", "class": [], "attributes": {}, "children": []}
        self.images: dict[str, bytes] = {}  # PNG by the id of its <symbol>
        self._open = [self.root]
        self._skipped: list[str] = []
        self._chart: list[str] | None = None  # source of the SVG being read
        self._width = 0  # of that chart, in pixels

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        classes = attributes.get("class", "").split()
        if self._skipped or tag in _SKIPPED:
            if tag not in _VOID:
                self._skipped.append(tag)
        elif self._chart is not None:
            self._chart.append(_start_tag(tag, attributes))
        elif tag == "svg" and not {"image", "stored"} & set(classes):
            self._width = int(attributes["width"])
            self._chart = [_start_tag(tag, {"xmlns": "http://www.w3.org/2000/svg", **attributes}), _CHART_STYLE]
        elif tag == "image":
            self.images[self._open[-1]["attributes"]["id"]] = base64.b64decode(attributes["href"][len(_DATA_URI) :])
        else:
            node = {"tag": tag, "class": classes, "attributes": attributes, "children": []}
            self._open[-1]["children"].append(node)
            if tag not in _VOID:
                self._open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self._chart is not None or tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._skipped:
            if tag == self._skipped[-1]:
                self._skipped.pop()
        elif self._chart is not None:
            self._chart.append(f"</{tag}>")
            if tag == "svg":
                self._open[-1]["children"].append({**_EMPTY_CHART, "svg": "".join(self._chart), "width": self._width})
                self._chart = None
        elif tag in (node["tag"] for node in self._open[1:]):
            while self._open.pop()["tag"] != tag:  # closes `<li>` and others whose end may be left out
                pass

    def handle_data(self, data: str) -> None:
        if self._skipped:
            return
        if self._chart is not None:
            self._chart.append(escape(data))
            return
        if not data.strip() and self._open[-1]["tag"] in _BLOCKS:
            return  # the line breaks of the template between elements
        keeps_space = any(node["tag"] == "pre" or "lines" in node["class"] for node in self._open)
        text = data if keeps_space else re.sub(r"[ \t\r\n]+", " ", data)
        self._open[-1]["children"].append(_LONG_WORD.sub(_make_breakable, text))


def _start_tag(tag: str, attributes: dict[str, str]) -> str:
    # The parser lowers the names of attributes, whose case SVG distinguishes.
    named = {"viewBox" if name == "viewbox" else name: value for name, value in attributes.items()}
    return " ".join([f"<{tag}", *(f'{name}="{escape(value)}"' for name, value in named.items())]) + ">"


def _make_breakable(word: re.Match[str]) -> str:
    return "\u200b".join(word[0][at : at + _WORD_PART] for at in range(0, len(word[0]), _WORD_PART))


def _chart_style() -> str:
    """The rules of the page's style sheet for charts, with the light colours in place of variables."""
    css = _CSS.read_text(encoding="utf-8")
    colours = dict(re.findall(r"--(\w+): (#\w+)", css.partition("@media")[0]))
    rules = [
        f"text {{ fill: {colours['soft']}; font-family: sans-serif; font-size: 11px; }}",
        f".name {{ fill: {colours['ink']}; }}",
        f".axis {{ stroke: {colours['soft']}; }} .grid {{ stroke: {colours['line']}; }}",
        "polyline { fill: none; stroke-width: 2; }",
        ".series-1 polyline, .series-4 polyline { stroke-dasharray: 7 5; }",
        ".series-2 polyline, .series-5 polyline { stroke-dasharray: 2 4; }",
    ]
    for number in range(6):
        rules.append(f".series-{number} polyline {{ stroke: {colours[f's{number}']}; }}")
        rules.append(f".series-{number} circle, .series-{number} rect {{ fill: {colours[f's{number}']}; }}")
    return f"<style>{' '.join(rules)}</style>"


_CHART_STYLE = _chart_style()
_EMPTY_CHART: dict[str, Any] = {"tag": "chart", "class": [], "attributes": {}, "children": []}
