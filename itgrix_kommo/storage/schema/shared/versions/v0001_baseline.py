"""The account's limit and its nodes, the OAuth grant, registrations that were handed over, claims of clients."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.String(36), nullable=False),
        sa.Column("epoch_at", sa.Double, nullable=False),
        sa.Column("tick", sa.BigInteger, nullable=False),
        sa.Column("paused_until", sa.Double, nullable=False),
        sa.Column("paused_by", sa.String(64), nullable=False),
    )
    op.create_table(
        "nodes",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("until", sa.Double, nullable=False),
        sa.Column("acked", sa.Double, nullable=False),
        sa.Column("wants", sa.Integer, nullable=False),
        sa.Column("waiting", sa.Integer, nullable=False),
        sa.Column("epoch", sa.String(36), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
    )
    op.create_table(
        "slots",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("home", sa.String(64)),
        sa.Column("holder", sa.String(64)),
        sa.Column("until", sa.Double, nullable=False),
    )
    op.create_table(
        "shared_grants",
        sa.Column("client_id", sa.String(64), primary_key=True),
        sa.Column("access_token", sa.Text, nullable=False),
        sa.Column("refresh_token", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("previous", sa.Text, nullable=False),
    )
    op.create_table(
        "handed",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("node", sa.String(64), nullable=False),
        sa.Column("call_id", sa.String(150), nullable=False),
        sa.Column("client", sa.String(220), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("due_at", sa.Double, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("call", sa.JSON, nullable=False),
        sa.Column("progress", sa.JSON, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("worker", sa.String(64), nullable=False),
        sa.Column("epoch", sa.String(36), nullable=False),
        sa.Column("is_told", sa.Boolean, nullable=False),
        sa.UniqueConstraint("node", "call_id"),
    )
    op.create_index("handed_in_line", "handed", ["state", "number"])
    op.create_index("handed_of_client", "handed", ["client", "number"])
    op.create_index("handed_to_tell", "handed", ["node", "is_told", "state"])
    op.create_table(
        "claims",
        sa.Column("client", sa.String(220), primary_key=True),
        sa.Column("node", sa.String(64), nullable=False),
    )
    op.create_index("ix_claims_node", "claims", ["node"])
