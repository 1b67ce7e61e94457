"""Large images piece by piece, so that a network's memory is bounded."""

from __future__ import annotations

from collections.abc import Iterator

Window = tuple[slice, slice]  # rows, columns


def tiles(height: int, width: int, side: int, margin: int) -> Iterator[tuple[Window, Window, Window]]:
    """(what the network sees, what is kept of it in the image, the same within what is seen).

    Nothing seen is larger than side x side; what is kept has `margin` pixels of context around it, less at the edges
    of the image.
    """
    for rows in _split_length(height, side, margin):
        for columns in _split_length(width, side, margin):
            (input_rows, output_rows, inner_rows), (input_columns, output_columns, inner_columns) = rows, columns
            yield (input_rows, input_columns), (output_rows, output_columns), (inner_rows, inner_columns)


def _split_length(length: int, side: int, margin: int) -> Iterator[tuple[slice, slice, slice]]:
    step = length if length <= side else side - 2 * margin
    for start in range(0, length, step):
        stop = min(length, start + step)
        first = max(0, start - margin)
        yield slice(first, min(length, stop + margin)), slice(start, stop), slice(start - first, stop - first)
