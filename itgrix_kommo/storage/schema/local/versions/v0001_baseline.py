"""Registrations and the ids they are known by, the OAuth grant, the phonebook, the recordings.

Databases of before have some of these tables, or all.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "registrations",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("node", sa.String(64), nullable=False),
        sa.Column("call_id", sa.String(150), nullable=False),
        sa.Column("client", sa.String(150), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("due_at", sa.Double, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("call", sa.JSON, nullable=False),
        sa.Column("progress", sa.JSON, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.UniqueConstraint("node", "call_id"),
        if_not_exists=True,
    )
    for name, *columns in (
        ("registrations_in_line", "node", "state", "id"),
        ("registrations_in_client_line", "node", "client", "state", "id"),
        ("registrations_due", "node", "state", "due_at"),
        ("registrations_of_client", "node", "client", "id"),
    ):
        op.create_index(name, "registrations", columns, if_not_exists=True)
    op.create_table(
        "aliases",
        sa.Column("node", sa.String(64), primary_key=True),
        sa.Column("alias", sa.String(150), primary_key=True),
        sa.Column("registration_id", sa.Integer, sa.ForeignKey("registrations.id", ondelete="CASCADE"), nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_aliases_registration_id", "aliases", ["registration_id"], if_not_exists=True)
    op.create_table(
        "grants",
        sa.Column("client_id", sa.String(64), primary_key=True),
        sa.Column("access_token", sa.Text, nullable=False),
        sa.Column("refresh_token", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("previous", sa.Text, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "phonebook",
        sa.Column("phone", sa.String(32), primary_key=True),
        sa.Column("listing", sa.JSON, nullable=False),
        sa.Column("used_at", sa.Double, nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_phonebook_used_at", "phonebook", ["used_at"], if_not_exists=True)
    op.create_table(
        "recordings",
        sa.Column("id", sa.String(200), primary_key=True),
        sa.Column("sources", sa.JSON, nullable=False),
        sa.Column("file_name", sa.Text, nullable=False),
        sa.Column("called_at", sa.Double, nullable=False),
        if_not_exists=True,
    )
