"""Tokens get an id, which lists and commands show, and a label.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("tokens", sa.Column("id", sa.Text(), nullable=True))
    op.add_column("tokens", sa.Column("label", sa.Text(), nullable=False, server_default=sa.text("''")))
    # Any unique value will do; the hash is keyed, and a digest of it tells nothing about the token.
    op.execute("UPDATE tokens SET id = 'tok_' || md5(encode(hash, 'hex'))")
    op.execute(
        "UPDATE tokens SET label = 'unveil local' FROM accounts WHERE accounts.id = account_id AND name = 'local'"
    )
    op.alter_column("tokens", "id", nullable=False)
    op.create_unique_constraint("uq_tokens_id", "tokens", ["id"])


def downgrade() -> None:
    op.drop_constraint("uq_tokens_id", "tokens")
    op.drop_column("tokens", "label")
    op.drop_column("tokens", "id")
