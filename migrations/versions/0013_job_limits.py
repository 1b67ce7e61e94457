"""Limits of jobs, quota and usage of an account; keys trained for an evaluation are for audits only.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_ZERO = sa.text("0")


def upgrade() -> None:
    for table in ("keys", "cells"):
        op.add_column(table, sa.Column("seconds_used", sa.Float, nullable=False, server_default=_ZERO))
        op.add_column(table, sa.Column("requeued_at", sa.DateTime(timezone=True), nullable=True))
        op.add_column(table, sa.Column("estimated_core_seconds", sa.Float, nullable=False, server_default=_ZERO))
    op.add_column("accounts", sa.Column("max_cost_core_hours", sa.Float, nullable=True))
    op.create_table(
        "account_usage",
        sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("core_seconds", sa.Float, nullable=False),
    )

    # Keys that were trained for an evaluation: its settings name their seeds.
    op.execute(
        "UPDATE keys SET training_request = training_request || '{\"audit_only\": true}'::jsonb "
        "WHERE evaluation_id IS NOT NULL AND training_request IS NOT NULL"
    )
    # Version 0.1 drew 64 bits for a key without a seed; later versions draw 256.
    op.execute(
        "UPDATE keys SET training_request = training_request || '{\"seed_bits\": 64}'::jsonb "
        "WHERE training_request IS NOT NULL AND training_request ->> 'seed' IS NULL"
    )


def downgrade() -> None:
    op.execute("UPDATE keys SET training_request = training_request - 'audit_only' - 'seed_bits'")
    op.drop_table("account_usage")
    op.drop_column("accounts", "max_cost_core_hours")
    for table in ("keys", "cells"):
        for column in ("seconds_used", "requeued_at", "estimated_core_seconds"):
            op.drop_column(table, column)
