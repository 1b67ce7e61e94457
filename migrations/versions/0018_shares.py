"""Links that let everybody who has them read one evaluation.

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.create_table(
        "shares",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("evaluation_id", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("images", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluations.id"], name="fk_shares_evaluation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("hash", name="pk_shares"),
        sa.UniqueConstraint("id", name="uq_shares_id"),
    )
    op.create_index("ix_shares_evaluation_id", "shares", ["evaluation_id"])


def downgrade() -> None:
    op.drop_table("shares")
