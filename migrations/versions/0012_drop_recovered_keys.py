"""Keys that an attack recovered are no longer stored: nothing read them, and they outlived the destroyed key.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    # A dropped column keeps its bytes in every row that is not written again.
    op.execute("UPDATE cells SET recovered_key = NULL WHERE recovered_key IS NOT NULL")
    op.drop_column("cells", "recovered_key")


def downgrade() -> None:
    op.add_column("cells", sa.Column("recovered_key", sa.LargeBinary(), nullable=True))
