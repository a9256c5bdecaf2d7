"""How a node's registrations stand that it has handed over: for a person, who sees its own rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from itgrix_kommo.errors import StorageError
from itgrix_kommo.storage.registrations import Registration, State
from itgrix_kommo.storage.shared import SharedDatabase
from itgrix_kommo.storage.shared_registrations import IS_ALIVE

UNHEARD = "it was handed over to the nodes' database; storage.shared_url is not set, so nobody here hears more"

_STANDING = sa.text(
    f"""
    SELECT h.call_id, h.state, h.worker, h.due_at, h.attempts, h.progress, h.reason, (
        SELECT c.node FROM claims c JOIN nodes n ON n.name = c.node WHERE c.client = h.client AND {IS_ALIVE}
    ) AS held_by
    FROM handed h WHERE h.node = :node AND h.call_id = ANY(:calls)
    """  # noqa: S608 (nothing in it comes from outside)
).bindparams(sa.bindparam("calls", type_=sa.ARRAY(sa.Text)))


async def as_shared(database: SharedDatabase | None, rows: Sequence[Registration]) -> list[Registration]:
    """One node's own rows; those that it handed over say how they stand there now, or why that can't be told."""
    gone = [row for row in rows if row.state is State.HANDED]
    if not gone:
        return list(rows)
    if database is None:
        return [replace(row, reason=UNHEARD) if row.state is State.HANDED else row for row in rows]
    given = {"node": gone[0].node, "calls": [row.call_id for row in gone]}
    try:
        found = await database.read(lambda connection: connection.execute(_STANDING, given).mappings().all())
    except StorageError as error:
        return [replace(row, reason=str(error)) if row.state is State.HANDED else row for row in rows]
    standing = {row["call_id"]: row for row in found}
    return [_standing(row, standing[row.call_id]) if row.call_id in standing else row for row in rows]


def _standing(row: Registration, now: Mapping[Any, Any]) -> Registration:
    reason = now["reason"] or (f"the node {now['held_by']} is at it" if now["held_by"] else "")
    if now["state"] != State.WAITING:
        by = f" by {now['worker']}" if now["worker"] != row.node else ""
        reason = f"{now['state']}{by}, which this PBX hears when its daemon runs{f': {reason}' if reason else ''}"
    return replace(row, due_at=now["due_at"], attempts=now["attempts"], progress=now["progress"], reason=reason)
