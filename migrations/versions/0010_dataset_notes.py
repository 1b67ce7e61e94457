"""Datasets carry a note on conversions and skipped files, and whether a classifier can be trained on them.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("datasets", sa.Column("note", sa.Text, nullable=False, server_default=""))
    op.add_column("datasets", sa.Column("labelled", sa.Boolean, nullable=False, server_default=sa.false()))
    op.execute("UPDATE datasets SET labelled = cardinality(classes) > 1")


def downgrade() -> None:
    op.drop_column("datasets", "labelled")
    op.drop_column("datasets", "note")
