"""Scores hold the visual information fidelity of each image; null for cells that were scored before, or small images.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("scores", sa.Column("vif", sa.ARRAY(sa.Float()), nullable=True))


def downgrade() -> None:
    op.drop_column("scores", "vif")
