"""When an account's work was last begun, so that accounts take turns.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("accounts", sa.Column("served_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("accounts", "served_at")
