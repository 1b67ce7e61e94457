"""Charts of a cell: its curves, drawn as the report draws them, and how the scores of its images are spread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unveil.app.report.charts import Chart, Tick, build_chart, round_ticks

Points = Sequence[Sequence[float | None]]

_WIDTH, _HEIGHT = 320, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 22, 34
_BINS = 20
_MAX_POINTS = 300  # a curve of more shows nothing more
_SSIM_BY_PREFIX = "ssim_by_"


@dataclass(frozen=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    text: str  # what a pointer that rests on it is told


@dataclass(frozen=True)
class Histogram:
    title: str
    x_label: str
    y_label: str
    bars: list[Bar]
    mean: Tick
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    description: str  # for who cannot see it
    lines: tuple[()] = ()
    width: int = _WIDTH
    height: int = _HEIGHT
    left: float = _LEFT
    right: float = _WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = _HEIGHT - _BOTTOM


def build_curve_charts(points_by_name: Mapping[str, Points]) -> list[Chart]:
    """Losses together, SSIM by the number of ciphertexts or pairs, every other curve by itself."""
    points_by_name = {name: _thin_points(points) for name, points in points_by_name.items()}
    losses = {name: points for name, points in points_by_name.items() if "loss" in name}
    charts = [build_chart("Losses", "epoch", "loss", losses)]
    for name, points in points_by_name.items():
        if name.startswith(_SSIM_BY_PREFIX):
            unit = name.removeprefix(_SSIM_BY_PREFIX)
            low = math.floor(10 * min(0.0, *(y for _, y in points if y is not None), 0.0)) / 10
            charts.append(build_chart(f"SSIM by {unit}", unit, "SSIM", {name: points}, log=True, y_range=(low, 1.0)))
        elif name not in losses:
            charts.append(build_chart(name.replace("_", " "), "step", "", {name: points}))
    return [each for each in charts if each is not None]


def build_histogram(values: Sequence[float]) -> Histogram | None:
    """How often each SSIM between 0 (or a little below) and 1 occurs; None without values."""
    finite_values = [value for value in values if math.isfinite(value)]
    if not finite_values:
        return None
    low = min(0.0, math.floor(min(finite_values) * 10) / 10)
    counts = [0] * _BINS
    for value in finite_values:
        counts[min(_BINS - 1, max(0, int((value - low) / (1 - low) * _BINS)))] += 1
    max_count = max(counts)
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x_at(value: float) -> float:
        return round(_LEFT + (value - low) / (1 - low) * plot_width, 1)

    def y_at(count: float) -> float:
        return round(_HEIGHT - _BOTTOM - count / max_count * plot_height, 1)

    bars = []
    for i, count in enumerate(counts):
        start, end = (low + (1 - low) * edge / _BINS for edge in (i, i + 1))
        tooltip = f"{count} of {len(finite_values)} between {start:.2f} and {end:.2f}"
        bars.append(
            Bar(
                x_at(start) + 0.75,
                y_at(count),
                round(plot_width / _BINS - 1.5, 1),
                round(y_at(0) - y_at(count), 1),
                tooltip,
            )
        )
    mean = sum(finite_values) / len(finite_values)
    return Histogram(
        title="Images by SSIM",
        x_label="SSIM",
        y_label="images",
        bars=bars,
        mean=Tick(x_at(mean), f"mean {mean:.3f}"),
        x_ticks=[Tick(x_at(x), f"{x:g}") for x in round_ticks(low, 1, 5)],
        y_ticks=[Tick(y_at(y), f"{y:g}") for y in round_ticks(0, max_count, 4) if y == int(y)],
        description=f"{len(finite_values)} images: mean {mean:.3f}, "
        f"lowest {min(finite_values):.3f}, highest {max(finite_values):.3f}",
    )


def _thin_points(points: Points) -> Points:
    """At most about _MOST_POINTS of them; the last one stays."""
    step = math.ceil(len(points) / _MAX_POINTS)
    return [*points[:-1:step], *points[-1:]] if step > 1 else points
