"""Evaluations have tags and notes, and a count of the edits to them and to the name.

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("evaluations", sa.Column("tags", sa.ARRAY(sa.Text()), nullable=False, server_default="{}"))
    op.add_column("evaluations", sa.Column("notes", sa.Text(), nullable=False, server_default=""))
    op.add_column("evaluations", sa.Column("edit_count", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    for name in ("edit_count", "notes", "tags"):
        op.drop_column("evaluations", name)
