"""Public keys that reports were signed with: a report stays verifiable after a rotation of the master key.

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.create_table(
        "signing_keys",
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("public_key", name="pk_signing_keys"),
    )


def downgrade() -> None:
    op.drop_table("signing_keys")
