"""How many requests a second each node is configured with: the least of them is the account's limit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("nodes", sa.Column("per_second", sa.Integer))
