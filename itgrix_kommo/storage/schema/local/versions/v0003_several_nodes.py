"""What a node of several remembers of its part in the account, and of registrations that it works at for all."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "membership",
        sa.Column("node", sa.String(64), primary_key=True),
        sa.Column("homes", sa.JSON, nullable=False),
        sa.Column("tick", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.String(36), nullable=False),
    )
    op.create_table(
        "remembered",
        sa.Column("node", sa.String(64), primary_key=True),
        sa.Column("call_id", sa.String(150), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("saved_at", sa.Double, nullable=False),
        sa.Column("row", sa.JSON, nullable=False),
    )
    op.create_index("ix_remembered_saved_at", "remembered", ["saved_at"])
