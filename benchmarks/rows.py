"""A database as years of work would leave it, and what PostgreSQL does to answer from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import Engine, event

from unveil.app.board.entries import KEY_SPACE, THREAT_MODEL_PREFIX, VERDICT
from unveil.app.evaluations.verdicts import COMPUTED_BY
from unveil.models.core.verdict_rules.types import THREAT_MODELS

GROWING_TABLES = ("evaluations", "cells", "scores", "samples", "curves", "events", "keys")  # what grows with use

_SCHEME = {"name": "tanaka", "variant": "paper", "block": 4}
_SETTINGS = {
    "name": "audit",
    "dataset": "sample", "public_dataset": None, "profile": "smoke", "seed": 0, "samples": 2, "keys": 1,
    "utility": False, "ssim_mode": "rgb7", "schemes": [_SCHEME], "attacks": [{"name": "fr"}],
}  # fmt: skip
_SSIM = {"mode": "rgb7", "mean": 0.06, "std": 0.03, "ci_low": 0.057, "ci_high": 0.063, "n": 500}
_IDENTIFICATION = {
    "top1": 0.44, "chance": 0.002, "ci_low": 0.39, "ci_high": 0.48, "gallery": 500, "scale": 4, "above_chance": True,
}  # fmt: skip
_RESULT = {
    "ssim": _SSIM, "identification": _IDENTIFICATION, "controls": {"positive": "passed", "negative": "passed"},
    "verdict": "leaks", "seconds": 1.9, "device": "cpu", "notes": [],
}  # fmt: skip
_VALUES = {
    "settings": Jsonb(_SETTINGS), "scheme": Jsonb(_SCHEME), "attack": Jsonb({"name": "fr"}), "result": Jsonb(_RESULT),
    "event": Jsonb({"status": "queued"}), "params": Jsonb({"variant": "paper", "block": 4}),
}  # fmt: skip
_ID = "lpad(to_hex(i), 32, '0')"
_ROWS = (  # table, columns, what is in them for number i
    (
        "evaluations",
        "id, account_id, name, status, settings, event_seq, started_at, finished_at",
        f"'ev_' || {_ID}, %(account)s, 'audit ' || i, 'succeeded', %(settings)s, 1, now(), now()",
    ),
    (
        "cells",
        "id, evaluation_id, position, scheme, attack, threat_model, status, progress, result, finished_at",
        f"'cell_' || {_ID}, 'ev_' || {_ID}, 0, %(scheme)s, %(attack)s, 'none', 'succeeded', 1, %(result)s, now()",
    ),
    ("events", "evaluation_id, seq, type, data", f"'ev_' || {_ID}, 1, 'status', %(event)s"),
    (
        "samples",
        "cell_id, index, ssim, plain, protected, reconstructed",
        f"'cell_' || {_ID}, 0, 0.06, 'png', 'png', 'png'",
    ),
    ("scores", "cell_id, index, ssim, psnr, rank", f"'cell_' || {_ID}, '{{0}}', '{{0.06}}', '{{9.1}}', '{{3}}'"),
    ("curves", "cell_id, name, points", f"'cell_' || {_ID}, 'loss', '[[0, 1], [1, 0.5]]'"),
    (
        "keys",
        "id, account_id, scheme, params, encrypted_secret, status, progress",
        f"'key_' || {_ID}, %(account)s, 'tanaka', %(params)s, 'sealed', 'succeeded', 1",
    ),
)


def evaluation_id(number: int) -> str:
    return f"ev_{number:032x}"


def cell_id(number: int) -> str:
    """Of the one cell of that evaluation."""
    return f"cell_{number:032x}"


def insert_evaluations(url: str, account_id: str, evaluations: int, images: int, *, existing: int = 0) -> None:
    """Ended evaluations of one cell each up to a number, with events, samples, curves, keys, scores.

    `images`: how many of them the last has. `above`: those up to here are there already.
    """
    parameters = {"first": existing + 1, "last": evaluations, "account": account_id}
    with psycopg.connect(url) as database:
        for table, columns, values in _ROWS:
            rows = f"SELECT {values} FROM generate_series(%(first)s::int, %(last)s::int) AS i"
            database.execute(f"INSERT INTO {table} ({columns}) {rows}", {**parameters, **_VALUES})
        database.execute(
            "UPDATE scores SET (index, ssim, psnr, rank) = (SELECT array_agg(i), array_agg(random()), "
            "array_agg(30 * random()), array_agg(500 * random()) FROM generate_series(0, %(last)s) AS i) "
            "WHERE cell_id = %(cell)s",
            {"cell": cell_id(evaluations), "last": images - 1},
        )
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(f"VACUUM (ANALYZE) {', '.join(GROWING_TABLES)}")


def insert_board_entries(url: str, evaluations: int, schemes: int) -> None:
    """For the evaluations up to a number: what each adds to the board if it has this many schemes."""
    own = {"evaluation": evaluation_id(1), "cell": cell_id(1), "profile": "smoke"}
    figures = {
        "verdict": "leaks",
        "because": "fr lets 44 % of images be identified",
        "attack": "fr",
        "ssim": 0.06,
        **own,
    }
    value = {
        "figures": figures, "scheme": _SCHEME, "title": "Tanaka's scheme", "label": "tanaka", "badge": "leaks, 44 %",
        "severity": None, "leak": 0.44, "origin": None, "versions": {"unveil": "0.2.0"}, "seed": 0,
        "command": "unveil evaluate --schemes tanaka --attacks fr --dataset sample --profile smoke",
    }  # fmt: skip
    bits = {"key_space_bits": 594.3, "effective_bits": 256.0}
    values = {VERDICT: value, KEY_SPACE: bits, **{THREAT_MODEL_PREFIX + model: figures for model in THREAT_MODELS}}
    with psycopg.connect(url, autocommit=True) as database:
        for aspect, content in values.items():
            database.execute(
                "INSERT INTO board_entries (evaluation_id, position, aspect, account_id, dataset, dataset_sha256, "
                "profile, computed_by, measured_at, scheme_key, rank, value) SELECT evaluations.id, s, %(aspect)s, "
                "account_id, 'sample', repeat('d', 64), 'smoke', %(by)s, finished_at, 'tanaka ' || s, "
                "ARRAY[1, 0, 0, 1, -random()], %(value)s FROM evaluations, generate_series(1, %(schemes)s) AS s "
                "WHERE evaluations.id <= %(last)s",
                {
                    "aspect": aspect, "by": COMPUTED_BY, "value": Jsonb(content), "schemes": schemes,
                    "last": evaluation_id(evaluations),
                },
            )  # fmt: skip
        by = "UPDATE evaluations SET board_computed_by = %s WHERE id <= %s"
        database.execute(by, [COMPUTED_BY, evaluation_id(evaluations)])
        database.execute("VACUUM (ANALYZE) evaluations, board_entries")


def insert_cells(url: str, evaluation: int, cells: int, *, existing: int = 1) -> None:
    """Cells of one evaluation up to a number, each as its first, with a sample. `above`: those up to here are there."""
    values = {"first": existing, "last": cells - 1, "cell": cell_id(evaluation)}
    more = "FROM generate_series(%(first)s::int, %(last)s::int) AS i"
    id = f"%(cell)s || '_' || {_ID}"
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(
            "INSERT INTO cells (id, evaluation_id, position, scheme, attack, threat_model, status, progress, result, "
            f"finished_at) SELECT {id}, evaluation_id, i, scheme, attack, threat_model, status, progress, result, "
            f"finished_at {more}, cells WHERE id = %(cell)s",
            values,
        )
        database.execute(
            "INSERT INTO samples (cell_id, index, ssim, plain, protected, reconstructed) "
            f"SELECT {id}, index, ssim, plain, protected, reconstructed {more}, samples WHERE cell_id = %(cell)s",
            values,
        )
        database.execute("VACUUM (ANALYZE) cells, samples")


@contextmanager
def record_statements(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """The statements that run meanwhile, with their values."""
    statements: list[tuple[str, Any]] = []

    @event.listens_for(engine, "before_cursor_execute")
    def record(_: Any, __: Any, statement: str, values: Any, ___: Any, executemany: bool) -> None:
        # One plan serves all values of a statement that runs for many; an INSERT of many rows has all values in one.
        statements.append((statement, values[0] if executemany and isinstance(values, list) else values))

    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", record)


def find_sequential_scans(url: str, statements: list[tuple[str, Any]]) -> list[str]:
    """Tables of BIG that a statement would read from end to end, with the statement, by EXPLAIN."""
    scans = []
    with psycopg.connect(url) as database:
        for statement, values in statements:
            plans = database.execute(f"EXPLAIN (FORMAT JSON) {statement}", values).fetchall()
            scans += [
                f"{node['Relation Name']}: {statement}"
                for node in _iter_plan_nodes(plans[0][0][0]["Plan"])
                if node["Node Type"] in ("Seq Scan", "Parallel Seq Scan") and node["Relation Name"] in GROWING_TABLES
            ]
    return scans


def _iter_plan_nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from _iter_plan_nodes(inner)
