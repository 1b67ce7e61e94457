"""Rename tables and columns, and give the wrapped keys of trained networks a column of their own.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_TABLES = {"workers": "process_heartbeats", "shared": "evaluation_artifacts"}
_CONSTRAINTS = {
    "process_heartbeats": {"pk_workers": "pk_process_heartbeats"},
    "evaluation_artifacts": {
        "pk_shared": "pk_evaluation_artifacts",
        "fk_shared_evaluation_id": "fk_evaluation_artifacts_evaluation_id",
    },
}
_JOB_COLUMNS = {
    "stalls": "attempts_without_progress",
    "checkpoint_lock": "checkpoint_wrapped_key",
    "sent_at": "enqueued_at",
}
# PostgreSQL changes the names inside the predicates of partial indexes by itself.
_COLUMNS = {
    "accounts": {"served_at": "last_job_started_at"},
    "cells": {**_JOB_COLUMNS, "recovered": "recovered_key"},
    "datasets": {"train": "train_count", "test": "test_count", "bytes": "pixel_bytes"},
    "evaluation_artifacts": {"holder": "owner_job_id"},
    "evaluations": {"version": "event_seq"},
    "idempotency": {"reserved": "reserved_ids"},
    "keys": {**_JOB_COLUMNS, "sealed": "encrypted_secret", "blob": "weights_blob", "training": "training_request"},
    "process_heartbeats": {
        "queue": "queues",
        "ring": "master_key_version",
        "slots": "concurrency",
        "recoveries": "lease_recoveries",
    },
}


def upgrade() -> None:
    for old, new in _TABLES.items():
        op.rename_table(old, new)
    for table, constraints in _CONSTRAINTS.items():
        for old, new in constraints.items():
            op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {old} TO {new}")
    for table, columns in _COLUMNS.items():
        for old, new in columns.items():
            op.alter_column(table, old, new_column_name=new)
    op.alter_column(
        "process_heartbeats",
        "queues",
        type_=sa.ARRAY(sa.Text()),
        postgresql_using="string_to_array(queues, ',')",
    )
    op.add_column("keys", sa.Column("wrapped_key", sa.LargeBinary()))
    op.execute(
        "UPDATE keys SET wrapped_key = encrypted_secret, encrypted_secret = NULL WHERE training_request IS NOT NULL"
    )


def downgrade() -> None:
    op.execute("UPDATE keys SET encrypted_secret = wrapped_key WHERE wrapped_key IS NOT NULL")
    op.drop_column("keys", "wrapped_key")
    op.alter_column("process_heartbeats", "queues", type_=sa.Text(), postgresql_using="array_to_string(queues, ',')")
    for table, columns in _COLUMNS.items():
        for old, new in columns.items():
            op.alter_column(table, new, new_column_name=old)
    for table, constraints in _CONSTRAINTS.items():
        for old, new in constraints.items():
            op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {new} TO {old}")
    for old, new in _TABLES.items():
        op.rename_table(new, old)
