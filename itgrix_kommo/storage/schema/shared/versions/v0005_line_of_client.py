"""What of each client waits, by an index of its own: PostgreSQL knows little of a table just filled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    waits = sa.text("state = 'waiting'")
    op.create_index("handed_line_of_client", "handed", ["client", "number"], postgresql_where=waits)
