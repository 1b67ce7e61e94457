"""Cells record whether their attack was requested; ended evaluations keep their verdicts for lists.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("cells", sa.Column("requested", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("evaluations", sa.Column("verdicts", JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("evaluations", "verdicts")
    op.drop_column("cells", "requested")
