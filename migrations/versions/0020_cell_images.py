"""Every attacked image of a cell, and its line-up.

Revision ID: 0020
Revises: 0019
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.create_table(
        "image_sets",
        sa.Column("evaluation_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("numbers", sa.ARRAY(sa.Integer()), nullable=False),
        sa.Column("pixels", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluations.id"], name="fk_image_sets_evaluation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "digest", name="pk_image_sets"),
    )
    # Pixels hardly compress, and only an uncompressed value can be read in part.
    op.execute("ALTER TABLE image_sets ALTER COLUMN pixels SET STORAGE EXTERNAL")
    op.create_table(
        "cell_images",
        sa.Column("cell_id", sa.Text(), nullable=False),
        sa.Column("image_count", sa.Integer(), nullable=False),
        sa.Column("originals", sa.LargeBinary()),
        sa.Column("protected", sa.LargeBinary()),
        sa.Column("reconstructed", sa.LargeBinary()),
        sa.Column("ssim", sa.ARRAY(sa.Float())),
        sa.Column("comparison", sa.Text()),
        sa.Column("rank", sa.ARRAY(sa.Integer())),
        sa.Column("own_similarity", sa.ARRAY(sa.Float())),
        sa.Column("nearest", sa.ARRAY(sa.Integer())),
        sa.Column("nearest_similarity", sa.ARRAY(sa.Float())),
        sa.Column("nearest_is_own", sa.ARRAY(sa.Boolean())),
        sa.ForeignKeyConstraint(["cell_id"], ["cells.id"], name="fk_cell_images_cell_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("cell_id", name="pk_cell_images"),
    )


def downgrade() -> None:
    op.drop_table("cell_images")
    op.drop_table("image_sets")
