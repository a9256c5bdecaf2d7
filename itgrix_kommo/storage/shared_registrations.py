"""Registrations that nodes have in common: each is its own node's, and the others' once that one is away.

A client is one node's at a time, by a claim, so that his calls keep their order whichever PBX they came to. A claim is
good while its node's lease lasts. Each change is made only under a claim, before anything is sent on its strength.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from itgrix_kommo.errors import StorageError
from itgrix_kommo.kommo.gathering import Gathering
from itgrix_kommo.storage.memory import Memory, Remembered
from itgrix_kommo.storage.registrations import Line, Registration, State
from itgrix_kommo.storage.shared import SharedDatabase, handed

MOST_CHANGES = 200

LOOK_AGAIN = 1.0
"""Seconds between looks: nobody tells when another node has finished with a client."""

MEMORY_AWAITED = 600.0
"""Seconds after an older copy of the database was put back in which every node may say what it remembers of later."""

_IS_ALIVE = "n.until > extract(epoch FROM clock_timestamp())"

_DUE = sa.text(
    f"""
    SELECT h.*, (
        SELECT o.worker <> :me FROM handed o
        WHERE o.client = h.client AND o.number <> h.number AND o.worker <> '' ORDER BY o.number DESC LIMIT 1
    ) AS is_elsewhere
    FROM handed h
    WHERE h.state = 'waiting' AND h.due_at <= :now AND h.client <> ALL(:busy)
      AND (h.node = :me OR NOT EXISTS (SELECT 1 FROM nodes n WHERE n.name = h.node AND {_IS_ALIVE}))
      AND NOT EXISTS (
          SELECT 1 FROM handed o WHERE o.client = h.client AND o.state = 'waiting' AND o.number < h.number
      )
      AND NOT EXISTS (
          SELECT 1 FROM claims c JOIN nodes n ON n.name = c.node
          WHERE c.client = h.client AND c.node <> :me AND {_IS_ALIVE}
      )
      AND EXISTS (
          SELECT 1 FROM account a
          WHERE h.epoch = a.epoch OR extract(epoch FROM clock_timestamp()) > a.epoch_at + :awaited
              OR NOT EXISTS (SELECT 1 FROM nodes n WHERE n.epoch <> a.epoch)
      )
    ORDER BY h.number LIMIT :most FOR UPDATE OF h SKIP LOCKED
    """  # noqa: S608 (nothing in it comes from outside)
).bindparams(sa.bindparam("busy", type_=sa.ARRAY(sa.Text)))

_CLAIM = sa.text(
    f"""
    INSERT INTO claims (client, node) SELECT client, :me FROM unnest(:clients) AS client
    ON CONFLICT (client) DO UPDATE SET node = excluded.node
    WHERE claims.node = :me OR NOT EXISTS (SELECT 1 FROM nodes n WHERE n.name = claims.node AND {_IS_ALIVE})
    RETURNING client
    """  # noqa: S608
).bindparams(sa.bindparam("clients", type_=sa.ARRAY(sa.Text)))

_RELEASE = sa.text("DELETE FROM claims WHERE node = :me AND client = ANY(:clients)").bindparams(
    sa.bindparam("clients", type_=sa.ARRAY(sa.Text))
)

_CHANGE = sa.text(
    f"""
    UPDATE handed h SET
        progress = coalesce(c.progress, h.progress), state = coalesce(c.state, h.state),
        due_at = coalesce(c.due_at, h.due_at), reason = coalesce(c.reason, h.reason),
        attempts = h.attempts + c.more_attempts, version = h.version + 1, worker = :me, is_told = false
    FROM json_to_recordset(CAST(:changes AS json))
        AS c (number int, progress json, state text, due_at float8, reason text, more_attempts int)
    WHERE h.number = c.number AND EXISTS (
        SELECT 1 FROM claims k JOIN nodes n ON n.name = k.node
        WHERE k.client = h.client AND k.node = :me AND {_IS_ALIVE}
    )
    RETURNING h.*
    """  # noqa: S608
)

_ROWS = """
    FROM json_to_recordset(CAST(:rows AS json)) AS r (
        node text, call_id text, client text, state text, due_at float8, attempts int, created_at float8,
        call json, progress json, reason text, version int
    )"""

_HAND_OVER = sa.text(
    f"""
    INSERT INTO handed (node, call_id, client, state, due_at, attempts, created_at, call, progress, reason, version,
                        worker, epoch, is_told)
    SELECT r.*, CASE r.state WHEN 'waiting' THEN '' ELSE :me END, a.epoch, r.state <> 'waiting'
    {_ROWS} CROSS JOIN account a
    ON CONFLICT (node, call_id) DO UPDATE SET
        state = 'waiting', due_at = excluded.due_at, attempts = 0, version = handed.version + 1, is_told = false
    WHERE handed.state = 'failed' AND excluded.state = 'waiting'
    """
)

_REMIND = sa.text(
    f"""
    INSERT INTO handed (node, call_id, client, state, due_at, attempts, created_at, call, progress, reason, version,
                        worker, epoch, is_told)
    SELECT r.*, :me, '', false {_ROWS}
    ON CONFLICT (node, call_id) DO UPDATE SET
        state = excluded.state, due_at = excluded.due_at, attempts = excluded.attempts, progress = excluded.progress,
        reason = excluded.reason, version = excluded.version, worker = excluded.worker, is_told = false
    WHERE handed.version < excluded.version
    """
)

_TO_TELL = sa.text(
    "SELECT * FROM handed WHERE node = :me AND NOT is_told AND state <> 'waiting' ORDER BY number LIMIT :most"
)
_TOLD = sa.text("UPDATE handed SET is_told = true WHERE number = :number AND version = :version")
_REVIVE = sa.text(
    """
    UPDATE handed SET state = 'waiting', due_at = 0, version = version + 1
    WHERE number = :number AND version = :version
    """
)
_OF_CLIENT = sa.text(
    """
    SELECT h.*, h.node <> coalesce((SELECT b.node FROM handed b WHERE b.number = :before), h.node) AS is_foreign
    FROM handed h WHERE h.client = :client AND h.number <> :before ORDER BY h.number DESC LIMIT :most
    """
)


class _Change(NamedTuple):
    number: int
    client: str
    releases: bool
    values: dict[str, Any]


class SharedRegistrations:
    """What `Delivery` works at while the shared database is there. `node` is this one."""

    def __init__(self, database: SharedDatabase, memory: Memory, node: str) -> None:
        self._database = database
        self._memory = memory
        self._node = node
        self._clients: dict[int, str] = {}
        self._changing: Gathering[_Change, Remembered | None] = Gathering(self._change_all, most=MOST_CHANGES)

    # As `storage.registrations.Registrations`

    async def in_line(self, now: float, *, limit: int, busy: Sequence[str] = ()) -> Line:
        """The oldest waiting registration of each client who is nobody else's; he is this node's from now on."""
        given = {"me": self._node, "now": now, "busy": list(busy), "most": limit, "awaited": MEMORY_AWAITED}

        def claim(connection: sa.Connection) -> list[Registration]:
            rows = connection.execute(_DUE, given).mappings().all()
            clients = list({row["client"] for row in rows})
            claimed = set(connection.execute(_CLAIM, {"me": self._node, "clients": clients}).scalars())
            return [_registration(row) for row in rows if row["client"] in claimed]

        found = await self._database.write(claim)
        self._clients |= {one.id: one.client for one in found}
        return Line(found, now + LOOK_AGAIN)

    async def of_client(self, client: str, *, before: int, limit: int = 50) -> list[Registration]:
        """The client's other registrations, the latest first; what calls of other nodes are named says whose."""
        given = {"client": client, "before": before, "most": limit}
        rows = await self._database.read(lambda connection: connection.execute(_OF_CLIENT, given).mappings().all())
        self._clients |= {row["number"]: client for row in rows}
        return [_registration(row, prefix=f"{row['node']}:" if row["is_foreign"] else "") for row in rows]

    async def progress_of(self, client: str, *, before: int, limit: int = 50) -> list[tuple[int, str, str]]:
        """Of the same number, call id, and progress as JSON text."""
        rows = await self.of_client(client, before=before, limit=limit)
        return [(row.id, row.call_id, json.dumps(row.progress)) for row in rows]

    async def save_progress(self, number: int, progress: dict[str, Any]) -> None:
        await self._change(number, progress=progress)

    async def postpone(self, number: int, *, due_at: float, reason: str) -> None:
        await self._change(number, releases=True, due_at=due_at, reason=reason, more_attempts=1)

    async def close(
        self, number: int, state: State, *, reason: str = "", progress: dict[str, Any] | None = None
    ) -> None:
        await self._change(number, releases=True, state=state.value, reason=reason, progress=progress)

    # Between the nodes

    async def hand_over(self, rows: Collection[Remembered]) -> None:
        """Let the others know of registrations of this node; those that they know already stay as they are."""
        await self._send(_HAND_OVER, rows)

    async def remind(self, rows: Collection[Remembered]) -> None:
        """The database was put back as it was earlier: what this node remembers of later goes on top."""
        await self._send(_REMIND, rows)

    async def to_tell(self) -> list[tuple[int, Remembered]]:
        """Registrations of this node that have come to their end, by whomever, and their numbers."""
        given = {"me": self._node, "most": MOST_CHANGES}
        rows = await self._database.read(lambda connection: connection.execute(_TO_TELL, given).mappings().all())
        return [(row["number"], remembered_of(row)) for row in rows]

    async def take_up_again(self, ended: Iterable[tuple[int, Remembered]]) -> None:
        """Something is left to do that this node alone can."""
        given = [{"number": number, "version": row.version} for number, row in ended]
        await self._database.write(lambda connection: connection.execute(_REVIVE, given))

    async def told(self, ended: Iterable[tuple[int, Remembered]]) -> None:
        given = [{"number": number, "version": row.version} for number, row in ended]
        await self._database.write(lambda connection: connection.execute(_TOLD, given))

    async def release(self) -> None:
        """This node works at nothing: what it held before goes free."""
        self._clients.clear()
        delete = sa.text("DELETE FROM claims WHERE node = :me")
        await self._database.write(lambda connection: connection.execute(delete, {"me": self._node}))

    async def waiting(self) -> dict[str, int]:
        """How many registrations of each node wait."""
        query = sa.text("SELECT node, count(*) FROM handed WHERE state = 'waiting' GROUP BY node")
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return {str(node): int(count) for node, count in rows}

    async def _send(self, statement: sa.TextClause, rows: Collection[Remembered]) -> None:
        given = {"me": self._node, "rows": json.dumps([row.as_json() for row in rows])}
        await self._database.write(lambda connection: connection.execute(statement, given))

    async def _change(self, number: int, *, releases: bool = False, **values: Any) -> None:
        values = {"number": number, "more_attempts": 0, **values}
        row = await self._changing.ask(_Change(number, self._clients.get(number, ""), releases, values))
        if row is None:
            raise StorageError(f"registration {number}: another node has taken its client over: it sees to it")
        # On this node's disk, too, before anything is sent: the shared database may be put back as it was.
        await self._memory.keep([row])
        if releases:
            self._clients.pop(number, None)

    async def _change_all(self, changes: list[_Change]) -> list[Remembered | None]:
        given = {"me": self._node, "changes": json.dumps([change.values for change in changes])}
        released = [change.client for change in changes if change.releases]

        def change(connection: sa.Connection) -> dict[int, Remembered]:
            rows = connection.execute(_CHANGE, given).mappings().all()
            if released:
                connection.execute(_RELEASE, {"me": self._node, "clients": released})
            return {row["number"]: remembered_of(row) for row in rows}

        done = await self._database.write(change)
        return [done.get(change.number) for change in changes]


async def forget_before(database: SharedDatabase, node: str, at: float, most: int) -> int:
    """Remove at most so many of this node's that it knows to be over and kept before `at` (Unix s); how many."""
    old = (
        sa.select(handed.c.number)
        .where(handed.c.node == node, handed.c.is_told, handed.c.state.in_([State.DONE, State.SKIPPED]))
        .where(handed.c.created_at < at)
        .limit(most)
    )
    delete = sa.delete(handed).where(handed.c.number.in_(old))
    return await database.write(lambda connection: connection.execute(delete).rowcount)


def remembered_of(row: Mapping[Any, Any]) -> Remembered:
    return Remembered(**{name: row[name] for name in Remembered.__slots__})


def _registration(row: Mapping[Any, Any], *, prefix: str = "") -> Registration:
    return Registration(
        id=row["number"],
        call_id=prefix + row["call_id"],
        client=row["client"],
        state=State(row["state"]),
        due_at=row["due_at"],
        attempts=row["attempts"],
        created_at=row["created_at"],
        call=row["call"],
        progress=row["progress"],
        reason=row["reason"],
        node=row["node"],
        is_elsewhere=bool(row.get("is_elsewhere")),
    )
