"""Curves as SVG: scales, ticks and polylines, in the units of the picture. No script, no style attribute."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Points = Sequence[Sequence[float | None]]

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 22, 34  # margins, for the labels of the axes


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
class Chart:
    title: str
    x_label: str  # what the x axis counts
    y_label: str
    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Series]
    description: str  # for who cannot see it


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
    """Named curves in one picture; None where no curve has two points. log: of x. between: the range of y."""
    points_by_name = {
        name: [(x, y) for x, y in points if x is not None and y is not None] for name, points in curves.items()
    }
    points_by_name = {
        name: points for name, points in points_by_name.items() if len(points) > 1 and (not log or points[0][0] > 0)
    }
    if not points_by_name:
        return None
    xs = [x for points in points_by_name.values() for x, _ in points]
    ys = [y for points in points_by_name.values() for _, y in points]
    low, high = y_range or _pad_range(min(ys), max(ys))
    first, last = min(xs), max(xs)
    if first == last:
        return None
    width, height = size
    left, right, top, bottom = _LEFT, width - _RIGHT, _TOP, height - _BOTTOM

    def x_at(x: float) -> float:
        share = math.log(x / first) / math.log(last / first) if log else (x - first) / (last - first)
        return round(left + share * (right - left), 1)

    def y_at(y: float) -> float:
        return round(bottom - (min(max(y, low), high) - low) / (high - low) * (bottom - top), 1)

    lines = []
    for name, points in points_by_name.items():
        dots = [(x_at(x), y_at(y)) for x, y in sorted(points)]
        lines.append(Series(name, " ".join(f"{x},{y}" for x, y in dots), dots if len(dots) <= 12 else []))
    return Chart(
        title,
        x_label,
        y_label,
        width,
        height,
        left,
        right,
        top,
        bottom,
        [
            Tick(x_at(x), _format_tick(x))
            for x in (_power_of_two_ticks(first, last) if log else _integer_ticks(first, last))
        ],
        [Tick(y_at(y), _format_tick(y)) for y in round_ticks(low, high, 5)],
        lines,
        "; ".join(
            f"{name}: {_format_tick(points[0][1])} to {_format_tick(points[-1][1])}"
            for name, points in points_by_name.items()
        ),
    )


def _pad_range(low: float, high: float) -> tuple[float, float]:
    """A range with room above and below; a constant, or what rounding makes of one, lies in its middle."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = 0.1 * abs(high) or 1.0
        return low - margin, high + margin
    margin = 0.06 * (high - low)
    return (0.0 if low >= 0 and low - margin < 0 else low - margin), high + margin


def round_ticks(low: float, high: float, max_count: int) -> list[float]:
    """Round numbers 1, 2 or 5 times a power of ten apart."""
    min_step = (high - low) / max_count
    power = 10 ** math.floor(math.log10(min_step))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= min_step)
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _integer_ticks(low: float, high: float) -> list[float]:
    """Of `steps`, those that can be counted: epochs and steps are whole."""
    return [x for x in round_ticks(low, high, 5) if x == int(x)]


def _power_of_two_ticks(low: float, high: float) -> list[float]:
    """Powers of two, at most eight of them, with the last value."""
    powers = [2.0**i for i in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)]
    return powers[:: 1 + len(powers) // 9]


def _format_tick(value: float) -> str:
    return f"{value:.4g}"


@dataclass(frozen=True)
class Bar:
    name: str
    text: str
    y: int
    width: float


@dataclass(frozen=True)
class KeySpaceChart:
    width: int
    height: int
    left: int
    bars: list[Bar]
    ticks: list[Tick]
    secret_bits_x: float  # where the bits of a stored secret lie


def build_key_space_chart(bits: Sequence[tuple[str, float]], width: int = 440) -> KeySpaceChart | None:
    """Bars of log2 of numbers of keys, on a logarithmic scale from 10 bits on."""
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
            Bar(name, f"2^{count:,.1f}", 18 + 36 * i, max(2.0, x_at(count) - left))
            for i, (name, count) in enumerate(bits)
        ],
        [Tick(x_at(10.0**power), f"{10**power:,}") for power in range(1, round(math.log10(last)) + 1)],
        x_at(256.0),
    )
