"""Indexes that say what is asked: of cells at work as of keys, of trained keys, of weights left behind.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    _replace_active_index("status IN ('queued', 'running', 'cancelling')")
    op.create_index(
        "ix_keys_trained", "keys", ["account_id", "scheme", "id"], postgresql_where=sa.text("training IS NOT NULL")
    )
    op.create_index(
        "ix_keys_leftover", "keys", ["id"], postgresql_where=sa.text("destroyed_at IS NOT NULL AND blob IS NOT NULL")
    )


def downgrade() -> None:
    op.drop_index("ix_keys_leftover", "keys")
    op.drop_index("ix_keys_trained", "keys")
    _replace_active_index("finished_at IS NULL")


def _replace_active_index(predicate: str) -> None:
    op.drop_index("ix_cells_active", "cells")
    op.create_index("ix_cells_active", "cells", ["status", "lease_until"], postgresql_where=sa.text(predicate))
