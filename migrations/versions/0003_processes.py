"""What processes say of themselves: their master key, how much they do at once, their GPUs.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("ring", sa.Integer(), nullable=True))
    op.add_column("workers", sa.Column("slots", sa.Integer(), nullable=True))
    op.add_column("workers", sa.Column("recoveries", sa.Integer(), nullable=True))
    op.add_column("workers", sa.Column("gpus", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    op.execute("DELETE FROM workers WHERE queue = 'api'")
    for column in ("gpus", "recoveries", "slots", "ring"):
        op.drop_column("workers", column)
