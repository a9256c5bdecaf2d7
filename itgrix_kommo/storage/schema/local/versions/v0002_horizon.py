"""Up to when finished registrations were cleaned away: history of before can't be told from what was registered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "horizon",
        sa.Column("node", sa.String(64), primary_key=True),
        sa.Column("forgotten_before", sa.Double, nullable=False),
        if_not_exists=True,
    )
