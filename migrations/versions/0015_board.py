"""What each finished evaluation adds to the board, ranked; filled when a board is read.

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("evaluations", sa.Column("board_computed_by", sa.Text, nullable=True))
    columns = ["account_id", "board_computed_by", "id"]
    op.create_index("ix_evaluations_account_id_board_computed_by_id", "evaluations", columns)
    op.create_table(
        "board_entries",
        sa.Column("evaluation_id", sa.Text, sa.ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("aspect", sa.Text, primary_key=True),
        sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("dataset_sha256", sa.Text, nullable=False),
        sa.Column("profile", sa.Text, nullable=False),
        sa.Column("computed_by", sa.Text, nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("scheme_key", sa.Text, nullable=False),
        sa.Column("rank", sa.ARRAY(sa.Float()), nullable=False),
        sa.Column("value", JSONB, nullable=False),
    )
    columns = ["account_id", "computed_by", "aspect", "dataset_sha256", "scheme_key", "rank"]
    newest_first = sa.text("evaluation_id DESC")
    op.create_index("ix_board_entries_lowest_rank", "board_entries", [*columns, newest_first])
    op.create_index(
        "ix_board_entries_verdicts",
        "board_entries",
        ["account_id", "computed_by", "dataset_sha256", "scheme_key"],
        postgresql_include=["evaluation_id", "dataset", "profile", "measured_at"],
        postgresql_where=sa.text("aspect = 'verdict'"),
    )


def downgrade() -> None:
    op.drop_table("board_entries")
    op.drop_index("ix_evaluations_account_id_board_computed_by_id", "evaluations")
    op.drop_column("evaluations", "board_computed_by")
