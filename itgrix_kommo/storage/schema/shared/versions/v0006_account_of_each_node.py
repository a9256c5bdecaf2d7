"""Which Kommo account each node works for: one that has another finishes nothing of the others'."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("nodes", sa.Column("account", sa.BigInteger))
