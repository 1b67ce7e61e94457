"""Jobs no longer record when a message was sent: the sweeper compares the number of messages with the queued jobs.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    for table in ("keys", "cells"):
        op.drop_column(table, "enqueued_at")


def downgrade() -> None:
    # NULL means "never sent", so the sweeper of the version before sends every queued job again.
    for table in ("keys", "cells"):
        op.add_column(table, sa.Column("enqueued_at", sa.DateTime(timezone=True), nullable=True))
