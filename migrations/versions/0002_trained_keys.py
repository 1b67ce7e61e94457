"""Keys that are trained for an evaluation, and what its jobs share.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("keys", sa.Column("evaluation_id", sa.Text(), nullable=True))
    op.create_foreign_key(
        op.f("fk_keys_evaluation_id"), "keys", "evaluations", ["evaluation_id"], ["id"], ondelete="SET NULL"
    )
    op.create_index(op.f("ix_keys_evaluation_id"), "keys", ["evaluation_id"])
    op.create_index(
        "ix_keys_active",
        "keys",
        ["status", "lease_until"],
        postgresql_where=sa.text("status IN ('queued', 'running', 'cancelling')"),
    )
    op.create_table(
        "shared",
        sa.Column("evaluation_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluations.id"], name=op.f("fk_shared_evaluation_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "name", name=op.f("pk_shared")),
    )


def downgrade() -> None:
    op.drop_table("shared")
    op.drop_index("ix_keys_active", table_name="keys")
    op.drop_index(op.f("ix_keys_evaluation_id"), table_name="keys")
    op.drop_constraint(op.f("fk_keys_evaluation_id"), "keys", type_="foreignkey")
    op.drop_column("keys", "evaluation_id")
