"""Charts of a cell: its curves, drawn as the report draws them, and how the scores of its images are spread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unveil.app.report.charts import Chart, Tick, chart, steps

Points = Sequence[Sequence[float | None]]

_WIDTH, _HEIGHT = 320, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 22, 34
_BINS = 20
_MOST_POINTS = 300  # a curve of more shows nothing more
_BY = "ssim_by_"


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
    across: str
    up: str
    bars: list[Bar]
    mean: Tick
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    said: str  # for who cannot see it
    lines: tuple[()] = ()
    width: int = _WIDTH
    height: int = _HEIGHT
    left: float = _LEFT
    right: float = _WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = _HEIGHT - _BOTTOM


def curves(named: Mapping[str, Points]) -> list[Chart]:
    """Losses together, SSIM by the number of ciphertexts or pairs, every other curve by itself."""
    named = {name: _thinned(points) for name, points in named.items()}
    losses = {name: points for name, points in named.items() if "loss" in name}
    drawn = [chart("Losses", "epoch", "loss", losses)]
    for name, points in named.items():
        if name.startswith(_BY):
            unit = name.removeprefix(_BY)
            low = math.floor(10 * min(0.0, *(y for _, y in points if y is not None), 0.0)) / 10
            drawn.append(chart(f"SSIM by {unit}", unit, "SSIM", {name: points}, log=True, between=(low, 1.0)))
        elif name not in losses:
            drawn.append(chart(name.replace("_", " "), "step", "", {name: points}))
    return [each for each in drawn if each is not None]


def histogram(values: Sequence[float]) -> Histogram | None:
    """How often each SSIM between 0 (or a little below) and 1 occurs; None without values."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    low = min(0.0, math.floor(min(known) * 10) / 10)
    counts = [0] * _BINS
    for value in known:
        counts[min(_BINS - 1, max(0, int((value - low) / (1 - low) * _BINS)))] += 1
    most = max(counts)
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def across(value: float) -> float:
        return round(_LEFT + (value - low) / (1 - low) * wide, 1)

    def up(count: float) -> float:
        return round(_HEIGHT - _BOTTOM - count / most * high, 1)

    bars = []
    for i, count in enumerate(counts):
        start, end = (low + (1 - low) * edge / _BINS for edge in (i, i + 1))
        told = f"{count} of {len(known)} between {start:.2f} and {end:.2f}"
        bars.append(
            Bar(across(start) + 0.75, up(count), round(wide / _BINS - 1.5, 1), round(up(0) - up(count), 1), told)
        )
    mean = sum(known) / len(known)
    return Histogram(
        title="Images by SSIM",
        across="SSIM",
        up="images",
        bars=bars,
        mean=Tick(across(mean), f"mean {mean:.3f}"),
        x_ticks=[Tick(across(x), f"{x:g}") for x in steps(low, 1, 5)],
        y_ticks=[Tick(up(y), f"{y:g}") for y in steps(0, most, 4) if y == int(y)],
        said=f"{len(known)} images: mean {mean:.3f}, lowest {min(known):.3f}, highest {max(known):.3f}",
    )


def _thinned(points: Points) -> Points:
    """At most about _MOST_POINTS of them; the last one stays."""
    step = math.ceil(len(points) / _MOST_POINTS)
    return [*points[:-1:step], *points[-1:]] if step > 1 else points
