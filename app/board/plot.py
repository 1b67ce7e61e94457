"""Privacy against utility: how much each scheme of a board shows, and the accuracy that a classifier keeps."""

from __future__ import annotations

from collections.abc import Callable

from unveil.app.report.board import Board, BoardRow
from unveil.app.report.charts import Chart, Point, build_scatter
from unveil.app.report.labels import format_percent


def build_plot(board: Board, link: Callable[[BoardRow], str]) -> Chart | None:
    """A numbered point for each row whose utility was measured; None without any. link: the address of a row."""
    points = [
        Point(
            row.utility.protected,
            row.leak,
            str(number),
            f"{row.title}: leak {row.leak:.2f}, accuracy {format_percent(row.utility.protected)}",
            link(row),
        )
        for number, row in enumerate(board.rows, 1)
        if row.utility is not None and row.leak is not None
    ]
    if not points:
        return None
    return build_scatter("Leak against accuracy", "accuracy on protected images", "leak", points)
