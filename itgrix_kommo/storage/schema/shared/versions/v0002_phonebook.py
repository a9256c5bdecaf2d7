"""The phonebook that nodes have in common."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "shared_phonebook",
        sa.Column("phone", sa.String(32), primary_key=True),
        sa.Column("listing", sa.JSON),
        sa.Column("used_at", sa.Double, nullable=False),
        sa.Column("told_at", sa.Double, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.Column("node", sa.String(64), nullable=False),
    )
    op.create_index("ix_shared_phonebook_changed_at", "shared_phonebook", ["changed_at"])
