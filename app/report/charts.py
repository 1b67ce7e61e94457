"""Charts as SVG geometry: scales, ticks, polylines and bars. `charts.html.j2` draws them, without script or style."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

Points = Sequence[Sequence[float | None]]

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 22, 34  # margins, for the labels of the axes
_BINS = 20
_MAX_POINTS = 300  # of a curve; more cannot be seen
_MAX_DOTS = 12  # of a curve whose points are marked
_SSIM_BY_PREFIX = "ssim_by_"


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Series:
    name: str
    path: str  # of a polyline
    dots: list[tuple[float, float]]


@dataclass(frozen=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    text: str  # tooltip


@dataclass(frozen=True)
class Point:
    """Of a scatter plot: in values for `build_scatter`, in pixels in a chart."""

    x: float
    y: float
    label: str
    text: str  # tooltip
    link: str


@dataclass(frozen=True)
class Chart:
    title: str
    x_label: str
    y_label: str
    description: str  # for screen readers
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    series: list[Series] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    mean: Tick | None = None
    width: int = 320
    height: int = 200
    left = _LEFT
    top = _TOP

    @property
    def right(self) -> int:
        return self.width - _RIGHT

    @property
    def bottom(self) -> int:
        return self.height - _BOTTOM


def build_chart(
    title: str,
    x_label: str,
    y_label: str,
    curves: Mapping[str, Points],
    *,
    log: bool = False,
    y_range: tuple[float, float] | None = None,
    size: tuple[int, int] = (320, 200),
) -> Chart | None:
    """Named curves in one chart; None if no curve has two points. log: of the x axis. y_range: else from the values."""
    known = {name: [(x, y) for x, y in points if x is not None and y is not None] for name, points in curves.items()}
    known = {name: points for name, points in known.items() if len(points) > 1 and (not log or points[0][0] > 0)}
    if not known:
        return None
    xs = [x for points in known.values() for x, _ in points]
    ys = [y for points in known.values() for _, y in points]
    low, high = y_range or _pad_range(min(ys), max(ys))
    first, last = min(xs), max(xs)
    if first == last:
        return None
    width, height = size
    y_at = _scale(low, high, height - _BOTTOM, _TOP)
    to_axis: Callable[[float], float] = math.log if log else float
    x_scale = _scale(to_axis(first), to_axis(last), _LEFT, width - _RIGHT)

    def x_at(x: float) -> float:
        return x_scale(to_axis(x))

    series = []
    for name, points in known.items():
        dots = [(x_at(x), y_at(min(max(y, low), high))) for x, y in sorted(points)]
        series.append(Series(name, " ".join(f"{x},{y}" for x, y in dots), dots if len(dots) <= _MAX_DOTS else []))
    ticks = _power_of_two_ticks(first, last) if log else [x for x in round_ticks(first, last, 5) if x == int(x)]
    return Chart(
        title,
        x_label,
        y_label,
        "; ".join(f"{name}: {points[0][1]:.4g} to {points[-1][1]:.4g}" for name, points in known.items()),
        [Tick(x_at(x), f"{x:.4g}") for x in ticks],
        [Tick(y_at(y), f"{y:.4g}") for y in round_ticks(low, high, 5)],
        series,
        width=width,
        height=height,
    )


def build_curve_charts(curves: Mapping[str, Points]) -> list[Chart]:
    """The charts of a cell: losses together, SSIM by number of ciphertexts or pairs, every other curve by itself."""
    curves = {name: _thin_points(points) for name, points in curves.items()}
    losses = loss_curves(curves)
    charts = [build_chart("Losses", "epoch", "loss", losses)]
    for name, points in curves.items():
        if name.startswith(_SSIM_BY_PREFIX):
            charts.append(build_ssim_chart(name.removeprefix(_SSIM_BY_PREFIX), {name: points}))
        elif name not in losses:
            charts.append(build_chart(name.replace("_", " "), "step", "", {name: points}))
    return [chart for chart in charts if chart is not None]


def loss_curves(curves: Mapping[str, Points]) -> dict[str, Points]:
    return {name: points for name, points in curves.items() if "loss" in name}


def ssim_curves(curves: Mapping[str, Points]) -> dict[str, Points]:
    """SSIM by the number of ciphertexts or pairs, by that unit."""
    prefix = _SSIM_BY_PREFIX
    return {name.removeprefix(prefix): points for name, points in curves.items() if name.startswith(prefix)}


def build_ssim_chart(unit: str, curves: Mapping[str, Points], size: tuple[int, int] = (320, 200)) -> Chart | None:
    """SSIM against a number of images. The axis starts below 0 if a curve does, as where an inverse was recovered."""
    values = [y for points in curves.values() for _, y in points if y is not None]
    low = math.floor(10 * min([0.0, *values])) / 10
    return build_chart(f"SSIM by {unit}", unit, "SSIM", curves, log=True, y_range=(low, 1.0), size=size)


def build_histogram(values: Sequence[float]) -> Chart | None:
    """How many images have each SSIM between 0 (or a little below) and 1; None without values."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    low = min(0.0, math.floor(min(known) * 10) / 10)
    counts = [0] * _BINS
    for value in known:
        counts[min(_BINS - 1, max(0, int((value - low) / (1 - low) * _BINS)))] += 1
    width, height = Chart.width, Chart.height
    x_at = _scale(low, 1.0, _LEFT, width - _RIGHT)
    y_at = _scale(0.0, max(counts), height - _BOTTOM, _TOP)
    bar_width = round((width - _LEFT - _RIGHT) / _BINS - 1.5, 1)
    bars = []
    for i, count in enumerate(counts):
        start, end = (low + (1 - low) * edge / _BINS for edge in (i, i + 1))
        text = f"{count} of {len(known)} between {start:.2f} and {end:.2f}"
        bars.append(Bar(x_at(start) + 0.75, y_at(count), bar_width, round(y_at(0) - y_at(count), 1), text))
    mean = sum(known) / len(known)
    return Chart(
        "Images by SSIM",
        "SSIM",
        "images",
        f"{len(known)} images: mean {mean:.3f}, lowest {min(known):.3f}, highest {max(known):.3f}",
        [Tick(x_at(x), f"{x:g}") for x in round_ticks(low, 1, 5)],
        [Tick(y_at(y), f"{y:g}") for y in round_ticks(0, max(counts), 4) if y == int(y)],
        bars=bars,
        mean=Tick(x_at(mean), f"mean {mean:.3f}"),
    )


def build_scatter(
    title: str, x_label: str, y_label: str, points: Sequence[Point], size: tuple[int, int] = (520, 320)
) -> Chart:
    """Points whose values lie between 0 and 1."""
    width, height = size
    x_at = _scale(0.0, 1.0, _LEFT, width - _RIGHT)
    y_at = _scale(0.0, 1.0, height - _BOTTOM, _TOP)
    ticks = round_ticks(0.0, 1.0, 5)
    return Chart(
        title,
        x_label,
        y_label,
        "; ".join(point.text for point in points),
        [Tick(x_at(x), f"{x:g}") for x in ticks],
        [Tick(y_at(y), f"{y:g}") for y in ticks],
        points=[replace(point, x=x_at(point.x), y=y_at(point.y)) for point in _merge_labels(points)],
        width=width,
        height=height,
    )


def _merge_labels(points: Sequence[Point]) -> list[Point]:
    """Labels of points too close to each other stand together on the first of them: `1, 3`."""
    merged: list[Point] = []
    for point in points:
        near = next(
            (i for i, m in enumerate(merged) if m.label and math.dist((m.x, m.y), (point.x, point.y)) < 0.04), None
        )
        if near is None:
            merged.append(point)
        else:
            merged[near] = replace(merged[near], label=f"{merged[near].label}, {point.label}")
            merged.append(replace(point, label=""))
    return merged


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Maps low to start and high to end."""
    return lambda value: round(start + (value - low) / (high - low) * (end - start), 1)


def _pad_range(low: float, high: float) -> tuple[float, float]:
    """A range with room above and below. A constant, also one with rounding errors, gets the middle."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        room = 0.1 * abs(high) or 1.0
        return low - room, high + room
    room = 0.06 * (high - low)
    return (0.0 if low >= 0 and low - room < 0 else low - room), high + room


def round_ticks(low: float, high: float, max_count: int) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / max_count
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _power_of_two_ticks(low: float, high: float) -> list[float]:
    """At most eight powers of two."""
    powers = [2.0**i for i in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)]
    return powers[:: 1 + len(powers) // 9]


def _thin_points(points: Points) -> Points:
    """At most about _MAX_POINTS points; the last one stays."""
    step = math.ceil(len(points) / _MAX_POINTS)
    return [*points[:-1:step], *points[-1:]] if step > 1 else points


@dataclass(frozen=True)
class KeySpaceChart:
    width: int
    height: int
    left: int
    bars: list[Bar]
    ticks: list[Tick]
    secret_bits_x: float  # where the bits of a stored secret lie


def build_key_space_chart(bits: Sequence[tuple[str, float]], width: int = 440) -> KeySpaceChart | None:
    """One bar a scheme: log2 of its number of keys, on a logarithmic scale from 10 bits on."""
    if not bits:
        return None
    left = 26
    last = 10.0 ** math.ceil(math.log10(max(1000.0, *(count for _, count in bits))))

    def x_at(count: float) -> float:
        return round(left + max(0.0, math.log10(count / 10) / math.log10(last / 10)) * (width - 2 * left), 1)

    return KeySpaceChart(
        width,
        36 * len(bits) + 34,
        left,
        [
            Bar(left, 18 + 36 * i, max(2.0, x_at(count) - left), 12, f"{name}: 2^{count:,.1f}")
            for i, (name, count) in enumerate(bits)
        ],
        [Tick(x_at(10.0**power), f"{10**power:,}") for power in range(1, round(math.log10(last)) + 1)],
        x_at(256.0),
    )
