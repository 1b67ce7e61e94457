"""The pictures on the page: one image under every scheme and attack, and the extremes of each cell.

Samples are lossless, so they are large: the page takes as many as keep it below a size, evenly; the zip has them all.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unveil.app.report.model import Column, Report, Row, Triple

PICTURE_BYTES = 6_000_000  # of base64 on one page
_MOST_STRIPS = 3  # triples a cell: one row of the page
_MOST_FIGURES = 2  # a scheme
PAPER_FIGURES: Mapping[str, str] = {"fr": "Fig. 9", "gan": "Fig. 10", "itn": "Fig. 11"}


@dataclass(frozen=True)
class Line:
    """A scheme's line of a figure. seen: by the column's label."""

    row: Row
    first: Triple
    seen: Mapping[str, Triple]


@dataclass(frozen=True)
class Figure:
    """One image, under every scheme and attack that stored it."""

    first: Triple
    columns: Sequence[Column]
    lines: Sequence[Line]


def figures(report: Report) -> list[Figure]:
    """Like the paper's figures 1, 9, 10 and 11, in one grid for each image that all cells of a scheme stored."""
    by_image: dict[tuple[int, str], list[Line]] = {}
    for row in report.rows:
        stored = [
            (column, {sample.index: sample for sample in report.samples.get(cell.id, ()) if sample.plain_sum})
            for column in report.columns
            if (cell := row.under(column)) is not None and report.samples.get(cell.id)
        ]
        for index in sorted(set.intersection(*(set(samples) for _, samples in stored)) if stored else ()):
            first = stored[0][1][index]
            assert first.plain_sum is not None
            seen = {column.label: samples[index] for column, samples in stored if column.name != "none"}
            by_image.setdefault((index, first.plain_sum), []).append(Line(row, first, seen))
    order = {name: position for position, name in enumerate(PAPER_FIGURES)}
    chosen: list[Figure] = []
    for _, lines in sorted(by_image.items(), key=lambda item: (-len(item[1]), item[0][0])):
        if all(sum(line.row in [own.row for own in f.lines] for f in chosen) >= _MOST_FIGURES for line in lines):
            continue
        columns = [c for c in report.columns if any(c.label in line.seen for line in lines)]
        columns.sort(key=lambda column: order.get(column.name, len(order)))
        chosen.append(Figure(lines[0].first, columns, lines))
    return chosen


def strips(report: Report, shown: Sequence[Figure]) -> dict[str, Sequence[Triple]]:
    """Triples by cell, lowest SSIM first, worst and best included: as many each as the page can hold."""
    left = PICTURE_BYTES - sum(figure.first.plain_size + sum(map(_line_size, figure.lines)) for figure in shown)
    for count in range(_MOST_STRIPS, 0, -1):
        chosen = {id: _spread(samples, count) for id, samples in report.samples.items() if samples}
        if sum(_size(sample) for samples in chosen.values() for sample in samples) <= left:
            return chosen
    return {}


def uri(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode()


def _spread(samples: Sequence[Triple], count: int) -> Sequence[Triple]:
    """`count` of them, evenly through their order, with both ends; of one, the middle."""
    if len(samples) <= count:
        return samples
    if count == 1:
        return samples[len(samples) // 2 :][:1]
    return [samples[i * (len(samples) - 1) // (count - 1)] for i in range(count)]


def _size(sample: Triple) -> int:
    return (sample.plain_size + sample.protected_size + sample.reconstructed_size) * 4 // 3


def _line_size(line: Line) -> int:
    return (line.first.protected_size + sum(sample.reconstructed_size for sample in line.seen.values())) * 4 // 3
