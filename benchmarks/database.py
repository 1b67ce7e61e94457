"""Answers out of a full database: 100,000 evaluations, and a cell with the scores of 8,000 images."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import httpx
import psycopg

from benchmarks import fixtures, rows
from benchmarks.results import Curve, Goal, Row
from unveil.app.local.stack import LocalStack

IMAGES = 8_000
_SIZES = (1_000, 10_000, 100_000)
_CELLS = (1, 20, 200, 32 * 32)
_REPETITIONS = 15
_BOARD_EVALUATIONS, _BOARD_SCHEMES = 1_000, 8


def database(stack: LocalStack) -> Iterator[Row | Curve]:
    """Fills the stack's own database, ever further."""
    points, filled = [], 0
    with fixtures.client(stack) as http:
        for size in _SIZES:
            fill_database(stack, size, existing=filled)
            filled = size
            if size == _BOARD_EVALUATIONS:
                rows.insert_board_entries(stack.environment["UNVEIL_DATABASE_URL"], size, _BOARD_SCHEMES)
                name = f"the board over {size:,} evaluations of {_BOARD_SCHEMES} schemes"
                yield Row(name, "ms", _median_ms(http, "/board"), goal=Goal("at most", 300))
            points.append((float(size), _median_ms(http, "/evaluations")))
        cell = f"/evaluations/{rows.evaluation_id(filled)}/cells/{rows.cell_id(filled)}/scores.csv"
        for name, address in (
            (f"a page of {filled:,} evaluations", "/evaluations"),
            (f"scores of a cell of {IMAGES:,} images", cell),
            ("one evaluation of them", f"/evaluations/{rows.evaluation_id(filled)}"),
        ):
            yield Row(name, "ms", _median_ms(http, address), goal=Goal("at most", 100))
        yield Curve("a page of evaluations", "evaluations", "ms", points)
        yield _measure_by_cells(stack, http, filled)


def _measure_by_cells(stack: LocalStack, http: httpx.Client, evaluation: int) -> Curve:
    """One evaluation that grows."""
    points, filled = [], 1
    for cells in _CELLS:
        rows.insert_cells(stack.environment["UNVEIL_DATABASE_URL"], evaluation, cells, existing=filled)
        filled = cells
        points.append((float(cells), _median_ms(http, f"/evaluations/{rows.evaluation_id(evaluation)}")))
    return Curve("one evaluation", "cells", "ms", points)


def fill_database(stack: LocalStack, evaluations: int, existing: int = 0) -> None:
    url = stack.environment["UNVEIL_DATABASE_URL"]
    with psycopg.connect(url) as connection:
        ((account,),) = connection.execute("SELECT id FROM accounts").fetchall()
    rows.insert_evaluations(url, account, evaluations, IMAGES, existing=existing)


def _median_ms(http: httpx.Client, address: str) -> float:
    times = []
    for _ in range(_REPETITIONS):
        start = time.perf_counter()
        http.get(address).raise_for_status()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)
