"""When a node of several was last answered by the others' database: it goes on alone for a day at most."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("membership", sa.Column("heard_at", sa.Double))
