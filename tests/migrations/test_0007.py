"""Migration 0007 keeps every value of a database of version 0.1, in both directions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, Table, create_engine, inspect, select
from sqlalchemy.orm import Session

from tests.servers import migrate
from unveil.app.db.job_states import Status
from unveil.app.db.migrate import alembic_config
from unveil.app.db.tables import (
    Account,
    Base,
    Cell,
    Dataset,
    Evaluation,
    EvaluationArtifact,
    IdempotencyRecord,
    Key,
    ProcessHeartbeat,
)
from unveil.app.settings import Settings

THEN = datetime(2026, 11, 1, 12, tzinfo=UTC)
RENAMED_TABLES = {"shared": "evaluation_artifacts", "workers": "process_heartbeats"}
RENAMED_COLUMNS = {
    "accounts": {"served_at": "last_job_started_at"},
    "cells": {
        "stalls": "attempts_without_progress", "checkpoint_lock": "checkpoint_wrapped_key",
    },
    "datasets": {"bytes": "pixel_bytes", "train": "train_count", "test": "test_count"},
    "evaluations": {"version": "event_seq"},
    "idempotency": {"reserved": "reserved_ids"},
    "keys": {
        "stalls": "attempts_without_progress", "checkpoint_lock": "checkpoint_wrapped_key",
        "blob": "weights_blob", "training": "training_request",
    },
    "shared": {"holder": "owner_job_id"},
    "workers": {"ring": "master_key_version", "slots": "concurrency", "recoveries": "lease_recoveries"},
}  # fmt: skip
CHANGED_COLUMNS = {
    ("keys", "sealed"), ("keys", "sent_at"), ("cells", "sent_at"), ("cells", "recovered"), ("workers", "queue"),
}  # fmt: skip


@pytest.fixture
def engine(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """On a database of version 0.1, with rows in every table."""
    monkeypatch.setenv("UNVEIL_DATABASE_URL", empty_database_url)
    command.upgrade(alembic_config(), "0006")
    engine = create_engine(Settings(database_url=empty_database_url).sqlalchemy_url)
    add_rows_of_0_1(engine)
    yield engine
    engine.dispose()


def reflect(engine: Engine) -> dict[str, Table]:
    metadata = MetaData()
    metadata.reflect(engine)
    return {name: table for name, table in metadata.tables.items() if name != "alembic_version"}


def read_rows(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Every row, in the order of the primary keys."""
    with engine.connect() as connection:
        return {
            name: [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]
            for name, table in reflect(engine).items()
        }


def read_schema(engine: Engine) -> dict[str, Any]:
    """Columns, indexes and constraints by name."""
    inspector = inspect(engine)
    return {
        table: {
            "columns": {column.pop("name"): repr(column) for column in inspector.get_columns(table)},
            "indexes": sorted(map(repr, inspector.get_indexes(table))),
            "primary key": inspector.get_pk_constraint(table),
            "foreign keys": sorted(map(repr, inspector.get_foreign_keys(table))),
            "checks": sorted(map(repr, inspector.get_check_constraints(table))),
        }
        for table in inspector.get_table_names()
    }


def job(status: Status, **columns: Any) -> dict[str, Any]:
    """What version 0.1 writes for a job in this state."""
    held = status in (Status.RUNNING, Status.CANCELLING)
    ended = status not in (Status.QUEUED, Status.RUNNING, Status.CANCELLING)
    return {
        "status": status.value,
        "progress": 1.0 if status is Status.SUCCEEDED else 0.25,
        "phase": "epoch 2 of 8" if held else "",
        "error": {"code": "poison", "detail": "no progress"} if status is Status.FAILED else None,
        "attempt": 3 if held else 1,
        "stalls": 2 if held else 0,
        "lease_owner": "host/7/ab" if held else None,
        "lease_until": THEN + timedelta(minutes=1) if held else None,
        "sent_at": None if ended else THEN,
        "checkpoint_lock": b"wrapped for %s" % status.encode() if held else None,
        "started_at": THEN if held or ended else None,
        "finished_at": THEN if ended else None,
        **columns,
    }


def add_rows_of_0_1(engine: Engine) -> None:
    training = {"profile": "smoke", "dataset": "sample", "seed": None}
    trained = [
        job(
            status, id=f"key_{status}", account_id="acct_1", scheme="tn-gan", params={"width": 1}, training=training,
            sealed=b"lock of %s" % status.encode(), uses=0, evaluation_id="ev_running",
            blob="keys/key_succeeded.1" if status is Status.SUCCEEDED else None,
            provenance={"test": {"ssim": 0.9}} if status is Status.SUCCEEDED else None,
        )
        for status in Status if status is not Status.NOT_APPLICABLE
    ]  # fmt: skip
    gone = job(Status.SUCCEEDED, account_id="acct_1", sealed=None, destroyed_at=THEN)
    drawn = job(Status.SUCCEEDED, account_id="acct_1", scheme="tanaka", params={"variant": "paper"})
    rows: dict[str, list[dict[str, Any]]] = {
        "accounts": [
            {"id": "acct_1", "name": "owner", "served_at": THEN},
            {"id": "acct_2", "name": "former", "revoked_at": THEN},
        ],
        "tokens": [{"hash": b"h1", "account_id": "acct_1", "scopes": ["read", "encrypt"]}],
        "sign_in_codes": [{"hash": b"h2", "account_id": "acct_1", "scopes": ["read"], "expires_at": THEN}],
        "dashboard_sessions": [{"hash": b"h3", "account_id": "acct_1", "scopes": ["read"], "expires_at": THEN}],
        "evaluations": [
            {
                "id": f"ev_{status}", "account_id": "acct_1", "name": status, "status": status, "version": 41,
                "settings": {"keys": 1},
            }
            for status in Status if status is not Status.NOT_APPLICABLE
        ],
        "keys": [
            *trained,
            {**drawn, "id": "key_drawn", "sealed": b"envelope 1", "uses": 5},
            {**drawn, "id": "key_given", "sealed": b"envelope 2", "width": 32, "height": 24},
            {**gone, "id": "key_drawn_gone", "scheme": "etc", "params": {}},
            {
                **gone, "id": "key_trained_gone", "scheme": "tn-model", "params": {}, "training": training,
                "blob": "keys/key_trained_gone.1",
            },
        ],
        "datasets": [
            {
                "id": "ds_1", "account_id": "acct_1", "name": "mine", "kind": "plain", "train": 40, "test": 16,
                "width": 32, "height": 24, "classes": ["dark", "light"], "blob": "datasets/ds_1.npz",
                "bytes": 5_000_000_000,
            },
        ],
        "cells": [
            job(
                status, id=f"cell_{status}", evaluation_id="ev_running", position=position, scheme={"name": "tanaka"},
                attack={"name": "fr"}, threat_model="ciphertext-only",
                result={"ssim": {"mean": 0.5}} if status is Status.SUCCEEDED else None,
                recovered=b"envelope 3" if status is Status.SUCCEEDED else None,
            )
            for position, status in enumerate(Status)
        ],
        "events": [{"evaluation_id": "ev_running", "seq": 41, "type": "status", "data": {"status": "running"}}],
        "curves": [{"cell_id": "cell_succeeded", "name": "loss", "points": [[1, 0.5]]}],
        "samples": [
            {"cell_id": "cell_succeeded", "index": 3, "plain": b"a", "protected": b"b", "reconstructed": b"c"}
        ],
        "scores": [{"cell_id": "cell_succeeded", "index": [0], "ssim": [0.1], "psnr": [9.0], "rank": [1.0]}],
        "shared": [
            {"evaluation_id": "ev_running", "name": "controls/fr", "holder": "cell_running", "attempt": 3},
            {
                "evaluation_id": "ev_running", "name": "classifier", "holder": "cell_succeeded", "attempt": 1,
                "sealed": b"envelope 4",
            },
        ],
        "idempotency": [
            {
                "account_id": "acct_1", "key": "once", "fingerprint": b"f", "reserved": {"key": "key_drawn"},
                "status": 201, "body": {"sealed": "YQ=="}, "headers": {}, "locked_until": THEN,
            },
        ],
        "workers": [
            {"name": "api@host/5", "queue": "api", "seen_at": THEN, "ring": 2},
            {
                "name": "encrypt@host", "queue": "encrypt,ops", "seen_at": THEN, "ring": 2, "slots": 4, "recoveries": 1,
                "gpus": [{"name": "H100", "use": 0.5, "memory_used": 1, "memory": 2}],
            },
        ],
    }  # fmt: skip
    tables = reflect(engine)
    assert set(rows) == set(tables)
    with engine.begin() as connection:
        for name, items in rows.items():
            for item in items:
                connection.execute(tables[name].insert().values(**item))


def test_every_value_is_kept_under_its_new_name(engine: Engine, empty_database_url: str) -> None:
    before = read_rows(engine)
    migrate(empty_database_url)
    after = read_rows(engine)
    added = {
        "account_usage", "board_entries", "cell_images", "image_sets", "shares", "signing_keys", "webhooks",
        "webhook_deliveries",
    }  # fmt: skip
    assert set(after) == {RENAMED_TABLES.get(table, table) for table in before} | added
    for table, rows in before.items():
        new_names = RENAMED_COLUMNS.get(table, {})
        for old, new in zip(rows, after[RENAMED_TABLES.get(table, table)], strict=True):
            unchanged = {name: value for name, value in old.items() if (table, name) not in CHANGED_COLUMNS}
            expected = {new_names.get(name, name): value for name, value in unchanged.items()}
            if table == "keys" and old["training"]:  # since 0013
                audit_only = {"audit_only": True} if old["evaluation_id"] else {}
                drawn_seed = {"seed_bits": 64} if old["training"]["seed"] is None else {}
                expected["training_request"] = {**old["training"], **drawn_seed, **audit_only}
            assert {name: new.get(name) for name in expected} == expected


def test_the_new_version_reads_what_the_old_one_wrote(engine: Engine, empty_database_url: str) -> None:
    migrate(empty_database_url)
    with Session(engine) as session:
        secrets = {key.id: (key.encrypted_secret, key.wrapped_key) for key in session.scalars(select(Key))}
        assert secrets == {
            **{f"key_{s}": (None, b"lock of %s" % s.encode()) for s in Status if s is not Status.NOT_APPLICABLE},
            "key_drawn": (b"envelope 1", None),
            "key_given": (b"envelope 2", None),
            "key_drawn_gone": (None, None),
            "key_trained_gone": (None, None),
        }
        assert session.get_one(Key, "key_trained_gone").weights_blob == "keys/key_trained_gone.1"
        for id in ("cell_running", "cell_cancelling"):
            cell = session.get_one(Cell, id)
            assert (cell.attempts_without_progress, cell.lease_owner) == (2, "host/7/ab")
            assert cell.checkpoint_wrapped_key == b"wrapped for %s" % cell.status.encode()
        assert session.get_one(Account, "acct_1").last_job_started_at == THEN
        assert session.get_one(Evaluation, "ev_running").event_seq == 41
        dataset = session.get_one(Dataset, "ds_1")
        assert (dataset.train_count, dataset.test_count, dataset.pixel_bytes) == (40, 16, 5_000_000_000)
        assert session.get_one(IdempotencyRecord, ("acct_1", "once")).reserved_ids == {"key": "key_drawn"}
        artifact = session.get_one(EvaluationArtifact, ("ev_running", "classifier"))
        assert (artifact.owner_job_id, artifact.sealed) == ("cell_succeeded", b"envelope 4")
        heartbeats = {row.name: row.queues for row in session.scalars(select(ProcessHeartbeat))}
        assert heartbeats == {"api@host/5": ["api"], "encrypt@host": ["encrypt", "ops"]}


def test_the_schema_and_the_names_of_constraints_are_those_of_the_tables(
    engine: Engine, empty_database_url: str
) -> None:
    migrate(empty_database_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    inspector = inspect(engine)
    for table in Base.metadata.sorted_tables:
        assert inspector.get_pk_constraint(table.name)["name"] == f"pk_{table.name}"
        for key in inspector.get_foreign_keys(table.name):
            assert key["name"] == f"fk_{table.name}_{key['constrained_columns'][0]}"


def test_a_downgrade_gives_version_0_1_its_rows_and_its_schema_back(engine: Engine, empty_database_url: str) -> None:
    rows, schema = read_rows(engine), read_schema(engine)
    for row in (*rows["keys"], *rows["cells"]):
        row["sent_at"] = None  # dropped by 0009; version 0.1 then sends every queued job again
    for row in rows["cells"]:
        row["recovered"] = None  # dropped by 0012
    migrate(empty_database_url)
    command.downgrade(alembic_config(), "0006")
    assert read_schema(engine) == schema
    assert read_rows(engine) == rows
    migrate(empty_database_url)
    with Session(engine) as session:
        assert session.get_one(Key, "key_succeeded").wrapped_key == b"lock of succeeded"
