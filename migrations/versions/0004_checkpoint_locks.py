"""The lock of a job's checkpoints: networks in training are sealed on the disk.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("keys", "cells"):
        op.add_column(table, sa.Column("checkpoint_lock", sa.LargeBinary(), nullable=True))
        op.create_index(
            f"ix_{table}_checkpoints", table, ["id"], postgresql_where=sa.text("checkpoint_lock IS NOT NULL")
        )


def downgrade() -> None:
    for table in ("keys", "cells"):
        op.drop_index(f"ix_{table}_checkpoints", table)
        op.drop_column(table, "checkpoint_lock")
