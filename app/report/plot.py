"""The SSIM of every attack in one picture, for notebooks and papers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path

from unveil.app.report.table import EvaluationTable, TableCell

_LABEL_WIDTH, _AXIS_WIDTH, _ROW, _TOP, _BOTTOM, _MARGIN = 290, 360, 22, 30, 44, 20
_COLORS = {"broken": "#b3261e", "leaks": "#955000", "no leak found": "#1d6b3a", "inconclusive": "#4a5a6a"}
_LOW = -0.1  # of the axis, unless a value is lower: the SSIM of unrelated images is near 0, of inverted ones below


@dataclass(frozen=True)
class Plot:
    """A drawing; a notebook shows it. svg: a document of its own."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> Path:
        """Write it as an .svg file. Raises ValueError for another suffix, OSError."""
        path = Path(path)
        if path.suffix != ".svg":
            raise ValueError(f"{path}: a plot is written as .svg; end the name in .svg")
        path.write_text(self.svg, encoding="utf-8")
        return path


def plot_ssim(table: EvaluationTable) -> Plot:
    """A dot for the mean SSIM of each scored cell, with its 95 % interval, in the colour of its verdict."""
    intervals = [
        cell.result.ssim.ci_low for row in table.rows for cell in row.cells if cell.result and cell.result.ssim
    ]
    axis_start = min([_LOW, *intervals])

    def x_at(ssim: float) -> float:
        return _MARGIN + _LABEL_WIDTH + _AXIS_WIDTH * (ssim - axis_start) / (1 - axis_start)

    body, y = [], float(_TOP)
    for row in table.rows:
        scored = [cell for cell in row.cells if cell.result is not None and cell.result.ssim is not None]
        body.append(_text(_MARGIN, y + _ROW * 0.7, row.title, weight="bold"))
        y += _ROW
        for cell in scored:
            body.append(_mark(cell, y, x_at))
            y += _ROW
        if not scored:
            body.append(_text(_MARGIN + 14, y + _ROW * 0.7, "no attack has an SSIM"))
            y += _ROW
    width, height = _LABEL_WIDTH + _AXIS_WIDTH + 2 * _MARGIN, y + _BOTTOM
    axis = [
        f'<line x1="{x_at(tick):.1f}" y1="{_TOP}" x2="{x_at(tick):.1f}" y2="{y:.1f}" stroke="#ccd3d9"/>'
        + _text(x_at(tick), y + 16, f"{tick:g}", anchor="middle")
        for tick in (0, 0.25, 0.5, 0.75, 1)
    ]
    title = _text(x_at(0.5), y + 34, "SSIM to the original, with 95 % interval", anchor="middle")
    size = f'width="{width}" height="{height:.0f}" viewBox="0 0 {width} {height:.0f}"'
    text = 'role="img" aria-label="SSIM of attacks" font-family="system-ui, sans-serif" font-size="13"'
    background = '<rect width="100%" height="100%" fill="#fff"/>'
    return Plot(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {text}>{background}{"".join([*axis, *body])}{title}</svg>'
    )


def _mark(cell: TableCell, y: float, x_at: Callable[[float], float]) -> str:
    assert cell.result is not None
    assert cell.result.ssim is not None
    ssim, middle = cell.result.ssim, y + _ROW / 2
    color = _COLORS[cell.result.verdict]
    label = f"{cell.column.title}: {ssim.mean:.3f} ({ssim.ci_low:.3f} to {ssim.ci_high:.3f}), {cell.result.verdict}"
    start, end, mean = x_at(ssim.ci_low), x_at(ssim.ci_high), x_at(ssim.mean)
    line = f'<line x1="{start:.1f}" y1="{middle}" x2="{end:.1f}" y2="{middle}" stroke="{color}" stroke-width="2"/>'
    name = _text(_MARGIN + 14, y + _ROW * 0.7, cell.column.title)
    return (
        f"<g><title>{escape(label)}</title>{name}{line}"
        f'<circle cx="{mean:.1f}" cy="{middle}" r="4.5" fill="{color}"/></g>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    shown = text if len(text) <= 44 else f"{text[:43]}…"
    style = f'text-anchor="{anchor}" font-weight="{weight}" fill="#1a2128"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(shown)}</text>'
