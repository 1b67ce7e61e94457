"""Charts as SVG: what a template needs to draw one, worked out here in the units of its view box."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 26
_BINS = 20

Points = Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    text: str  # what a pointer that rests on it is told


@dataclass(frozen=True)
class Chart:
    """A line or bars over a grid, and the same in a sentence for those who do not see it."""

    summary: str
    across: list[Tick]
    up: list[Tick]
    line: str = ""  # "x,y x,y ..."
    dots: list[tuple[float, float]] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    mark: Tick | None = None  # a value on the horizontal axis
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def line(name: str, points: Points) -> Chart | None:
    """A curve [[step, value], ...]; None with fewer than two points to join."""
    known = sorted((x, y) for x, y in points if x is not None and y is not None)
    if len(known) < 2:
        return None
    xs, ys = [x for x, _ in known], [y for _, y in known]
    bottom, top, ups = _axis(min(ys), max(ys))
    # 1, 2, 4, ... ciphertexts stand at equal distances
    doubling = name.endswith(("ciphertexts", "pairs", "queries")) and xs[0] > 0
    place = math.log2 if doubling else float
    left, right = place(xs[0]), place(xs[-1])
    steps = xs if doubling and len(xs) <= 8 else [x for x in _ticks(xs[0], xs[-1]) if xs[0] <= x <= xs[-1]]
    spots = [(_across(place(x), left, right), _up(y, bottom, top)) for x, y in known]
    return Chart(
        summary=f"{name}: from {ys[0]:.4g} at {xs[0]:g} to {ys[-1]:.4g} at {xs[-1]:g}; "
        f"lowest {min(ys):.4g}, highest {max(ys):.4g}",
        across=[Tick(_across(place(x), left, right), _short(x)) for x in steps],
        up=[Tick(_up(y, bottom, top), _short(y)) for y in ups],
        line=" ".join(f"{x:.1f},{y:.1f}" for x, y in _thinned(spots)),
        dots=spots if len(spots) <= 12 else [],
    )


def histogram(values: Sequence[float], what: str) -> Chart | None:
    """How often values between 0 and 1 (or a little below) occur; None without values."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    low = min(0.0, math.floor(min(known) * 10) / 10)
    counts = [0] * _BINS
    for value in known:
        counts[min(_BINS - 1, max(0, int((value - low) / (1 - low) * _BINS)))] += 1
    _, top, ups = _axis(0, max(counts))
    mean = sum(known) / len(known)
    edges = [low + (1 - low) * i / _BINS for i in range(_BINS + 1)]
    bars = []
    for count, start, end in zip(counts, edges, edges[1:], strict=False):
        x, y = _across(start, low, 1), _up(count, 0, top)
        told = f"{count} of {len(known)} between {start:.2f} and {end:.2f}"
        bars.append(Bar(x + 0.75, y, _across(end, low, 1) - x - 1.5, _up(0, 0, top) - y, told))
    return Chart(
        summary=f"{what} of {len(known)} images: mean {mean:.3f}, lowest {min(known):.3f}, highest {max(known):.3f}",
        across=[Tick(_across(x, low, 1), _short(x)) for x in _ticks(low, 1) if low <= x <= 1],
        up=[Tick(_up(y, 0, top), _short(y)) for y in ups if y == int(y)],
        bars=bars,
        mark=Tick(_across(mean, low, 1), f"mean {mean:.3f}"),
    )


def _across(x: float, low: float, high: float) -> float:
    return round(_LEFT + (x - low) / ((high - low) or 1) * (WIDTH - _LEFT - _RIGHT), 1)


def _up(y: float, low: float, high: float) -> float:
    return round(HEIGHT - _BOTTOM - (y - low) / ((high - low) or 1) * (HEIGHT - _TOP - _BOTTOM), 1)


def _axis(low: float, high: float) -> tuple[float, float, list[float]]:
    """A range that holds both and begins and ends at a tick."""
    ticks = _ticks(low, high if high > low else low + (abs(low) or 1))
    return ticks[0], ticks[-1], ticks


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers around the range: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _short(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.0e}"


def _thinned(spots: list[tuple[float, float]], most: int = 300) -> list[tuple[float, float]]:
    """More points than pixels show nothing more; the last one stays."""
    if len(spots) <= most:
        return spots
    step = math.ceil(len(spots) / most)
    return [*spots[:-1:step], spots[-1]]
