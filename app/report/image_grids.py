"""Images on the page: grids of one image under every scheme and attack, and strips of each cell's range.

Lossless samples are large, so the page holds only as many as fit MAX_IMAGE_BYTES. The zip has them all.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unveil.app.report.model import Report, SampleTriple
from unveil.app.report.table import AttackColumn, SchemeRow

MAX_IMAGE_BYTES = 1_500_000  # of base64 on one page, so that it can be sent by mail
_MAX_TRIPLES_PER_CELL = 3  # one row of the page
_MAX_GRIDS_PER_SCHEME = 2
PAPER_FIGURES: Mapping[str, str] = {"fr": "Fig. 9", "gan": "Fig. 10", "itn": "Fig. 11"}


@dataclass(frozen=True)
class GridRow:
    """A scheme in a grid. triple_by_column: by the column's label."""

    row: SchemeRow
    sample: SampleTriple
    triple_by_column: Mapping[str, SampleTriple]


@dataclass(frozen=True)
class ImageGrid:
    """One image, under every scheme and attack that stored it."""

    sample: SampleTriple
    columns: Sequence[AttackColumn]
    rows: Sequence[GridRow]


def build_image_grids(report: Report) -> list[ImageGrid]:
    """Like the paper's figures 1, 9, 10 and 11, in one grid for each image that all cells of a scheme stored."""
    by_image: dict[tuple[int, str], list[GridRow]] = {}
    for row in report.table.rows_with_paper:
        samples_by_column = [
            (column, {sample.index: sample for sample in samples if sample.plain_md5})
            for column in report.table.image_columns
            if (samples := report.samples_of(row.cell_for(column)))
        ]
        for index in sorted(
            set.intersection(*(set(samples) for _, samples in samples_by_column)) if samples_by_column else ()
        ):
            reference_sample = samples_by_column[0][1][index]
            assert reference_sample.plain_md5 is not None
            triple_by_column = {
                column.label: samples[index] for column, samples in samples_by_column if column.name != "none"
            }
            by_image.setdefault((index, reference_sample.plain_md5), []).append(
                GridRow(row, reference_sample, triple_by_column)
            )
    column_order = {name: position for position, name in enumerate(PAPER_FIGURES)}
    grids: list[ImageGrid] = []
    for _, lines in sorted(by_image.items(), key=lambda item: (-len(item[1]), item[0][0])):
        if all(sum(line.row in [own.row for own in f.rows] for f in grids) >= _MAX_GRIDS_PER_SCHEME for line in lines):
            continue
        columns = [c for c in report.table.image_columns if any(c.label in line.triple_by_column for line in lines)]
        columns.sort(key=lambda column: column_order.get(column.name, len(column_order)))
        grids.append(ImageGrid(lines[0].sample, columns, lines))
    # The first one always, and others while they fit.
    return [
        grid for count, grid in enumerate(grids, 1) if count == 1 or _base64_size_of(grids[:count]) <= MAX_IMAGE_BYTES
    ]


def build_strips(report: Report, grids: Sequence[ImageGrid]) -> dict[str, Sequence[SampleTriple]]:
    """Triples by cell, in their order and with the first and the last: as many as the page can hold."""
    remaining_bytes = MAX_IMAGE_BYTES - _base64_size_of(grids)
    for count in range(_MAX_TRIPLES_PER_CELL, 0, -1):
        triples_by_cell = {id: _pick_evenly(samples, count) for id, samples in report.samples.items() if samples}
        if sum(_base64_size(sample) for samples in triples_by_cell.values() for sample in samples) <= remaining_bytes:
            return triples_by_cell
    return {}


class ImageStore:
    """The PNGs of a page, each stored once however often it is shown."""

    def __init__(self) -> None:
        self._ids: dict[bytes, str] = {}

    def id_of(self, image: bytes) -> str:
        """The element of the page that holds this PNG."""
        return self._ids.setdefault(image, f"image-{len(self._ids)}")

    def stored(self) -> list[tuple[str, str]]:
        """(id, data URI) of every PNG that `id_of` was asked for."""
        return [(id, data_uri(image)) for image, id in self._ids.items()]


def data_uri(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode()


def _pick_evenly(samples: Sequence[SampleTriple], count: int) -> Sequence[SampleTriple]:
    """`count` of them, evenly spaced and with both ends; the middle if it is one."""
    if len(samples) <= count:
        return samples
    if count == 1:
        return samples[len(samples) // 2 :][:1]
    return [samples[i * (len(samples) - 1) // (count - 1)] for i in range(count)]


def _base64_size_of(grids: Sequence[ImageGrid]) -> int:
    return sum(grid.sample.plain_size * 4 // 3 + sum(map(_row_base64_size, grid.rows)) for grid in grids)


def _base64_size(sample: SampleTriple) -> int:
    return (sample.plain_size + sample.protected_size + sample.reconstructed_size) * 4 // 3


def _row_base64_size(row: GridRow) -> int:
    reconstructed_size = sum(sample.reconstructed_size for sample in row.triple_by_column.values())
    return (row.sample.protected_size + reconstructed_size) * 4 // 3
