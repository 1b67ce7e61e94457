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
_TIMES = 15


def database(stack: LocalStack) -> Iterator[Row | Curve]:
    """Fills the stack's own database, ever further."""
    points, there = [], 0
    with fixtures.client(stack) as http:
        for size in _SIZES:
            fill(stack, size, above=there)
            there = size
            points.append((float(size), _median(http, "/evaluations")))
        cell = f"/evaluations/{rows.evaluation_id(there)}/cells/{rows.cell_id(there)}/scores.csv"
        for name, address in (
            (f"a page of {there:,} evaluations", "/evaluations"),
            (f"scores of a cell of {IMAGES:,} images", cell),
            ("one evaluation of them", f"/evaluations/{rows.evaluation_id(there)}"),
        ):
            yield Row(name, "ms", _median(http, address), goal=Goal("at most", 100))
        yield Curve("a page of evaluations", "evaluations", "ms", points)
        yield _by_cells(stack, http, there)


def _by_cells(stack: LocalStack, http: httpx.Client, evaluation: int) -> Curve:
    """One evaluation that grows to the most that may be ordered."""
    points, there = [], 1
    for cells in _CELLS:
        rows.widen(stack.environment["UNVEIL_DATABASE_URL"], evaluation, cells, above=there)
        there = cells
        points.append((float(cells), _median(http, f"/evaluations/{rows.evaluation_id(evaluation)}")))
    return Curve("one evaluation", "cells", "ms", points)


def fill(stack: LocalStack, evaluations: int, above: int = 0) -> None:
    url = stack.environment["UNVEIL_DATABASE_URL"]
    with psycopg.connect(url) as connection:
        ((account,),) = connection.execute("SELECT id FROM accounts").fetchall()
    rows.fill(url, account, evaluations, IMAGES, above=above)


def _median(http: httpx.Client, address: str) -> float:
    times = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        http.get(address).raise_for_status()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)
