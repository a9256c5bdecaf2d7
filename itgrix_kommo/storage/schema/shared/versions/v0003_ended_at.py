"""When a registration that was handed over came to its end: from then on it is kept so long."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("handed", sa.Column("ended_at", sa.Double))
    # When those of before ended is not known: not later than now.
    op.execute("UPDATE handed SET ended_at = extract(epoch FROM clock_timestamp()) WHERE state <> 'waiting'")
    op.create_index("ix_handed_ended_at", "handed", ["ended_at"])
