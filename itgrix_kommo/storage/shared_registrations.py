"""Registrations that nodes have in common: each is its own node's, and the others' once that one is away.

A client is one node's at a time, by a claim, so that his calls keep their order whichever PBX they came to. A claim is
good while its node's lease lasts. Each change is made only under a claim, before anything is sent on its strength.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import sqlalchemy as sa
import structlog

from itgrix_kommo.errors import StorageError, StorageRefused
from itgrix_kommo.kommo.gathering import Gathering
from itgrix_kommo.storage.chronicle import DAY
from itgrix_kommo.storage.memory import KEPT_FOR, Memory, Remembered
from itgrix_kommo.storage.registrations import Line, Registration, State
from itgrix_kommo.storage.shared import SharedDatabase, as_json

MOST_CHANGES = 200

MOST_CLIENTS = 25
"""Clients whose registrations are looked at together: those of good clients are large."""

LOOK_AGAIN = 1.0
"""Seconds between looks: nobody tells when another node has finished with a client."""

OTHERS_FIRST = 5.0
"""Seconds for which a node that Kommo does not answer leaves what is due to those that it does."""

MEMORY_AWAITED = 600.0
"""Seconds after an older copy of the database was put back in which every node may say what it remembers of later."""

LOST = (
    "it was handed over to the nodes' database, which no longer has it: look in Kommo whether it is there, "
    "and if not: itgrix-kommo registrations retry"
)

_NOW = "extract(epoch FROM clock_timestamp())"
IS_ALIVE = f"n.until > {_NOW}"
# Another node: one that seems to be away only by a clock that has jumped is not.
_MAY_BE_ALIVE = f"n.until > least({_NOW}, CAST(:latest AS float8))"

_DUE = sa.text(
    f"""
    SELECT h.*, (
        SELECT o.worker <> :me FROM handed o
        WHERE o.client = h.client AND o.number <> h.number AND o.worker <> '' ORDER BY o.number DESC LIMIT 1
    ) AS is_elsewhere
    FROM handed h
    WHERE h.state = 'waiting' AND h.due_at <= :now AND h.client <> ALL(:busy)
      AND (h.node = :me OR NOT EXISTS (
          SELECT 1 FROM nodes n WHERE n.name = h.node AND (
              n.wants > 0 AND {_MAY_BE_ALIVE} OR n.account <> (SELECT m.account FROM nodes m WHERE m.name = :me)
          )
      ))
      AND NOT EXISTS (
          SELECT 1 FROM handed o WHERE o.client = h.client AND o.state = 'waiting' AND o.number < h.number
      )
      AND NOT EXISTS (
          SELECT 1 FROM claims c JOIN nodes n ON n.name = c.node
          WHERE c.client = h.client AND c.node <> :me AND {_MAY_BE_ALIVE}
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
    WHERE claims.node = :me OR NOT EXISTS (SELECT 1 FROM nodes n WHERE n.name = claims.node AND {_MAY_BE_ALIVE})
    RETURNING client
    """  # noqa: S608 (nothing in it comes from outside)
).bindparams(sa.bindparam("clients", type_=sa.ARRAY(sa.Text)))

_RELEASE = sa.text("DELETE FROM claims WHERE node = :me AND client = ANY(:clients)").bindparams(
    sa.bindparam("clients", type_=sa.ARRAY(sa.Text))
)

_RELEASE_ALL_BUT = sa.text("DELETE FROM claims WHERE node = :me AND client <> ALL(:busy)").bindparams(
    sa.bindparam("busy", type_=sa.ARRAY(sa.Text))
)

_CHANGE = sa.text(
    f"""
    UPDATE handed h SET
        progress = coalesce(c.progress, h.progress), state = coalesce(c.state, h.state),
        due_at = coalesce(c.due_at, h.due_at), reason = coalesce(c.reason, h.reason),
        attempts = h.attempts + c.more_attempts, version = h.version + 1, worker = :me, is_told = false,
        ended_at = CASE WHEN coalesce(c.state, h.state) <> 'waiting' THEN {_NOW} END
    FROM json_to_recordset(CAST(:changes AS json))
        AS c (number int, progress json, state text, due_at float8, reason text, more_attempts int)
    WHERE h.number = c.number AND EXISTS (
        SELECT 1 FROM claims k JOIN nodes n ON n.name = k.node
        WHERE k.client = h.client AND k.node = :me AND {IS_ALIVE}
    )
    RETURNING h.*
    """  # noqa: S608 (nothing in it comes from outside)
)

_ROWS = """
    FROM json_to_recordset(CAST(:rows AS json)) AS r (
        node text, call_id text, client text, state text, due_at float8, attempts int, created_at float8,
        call json, progress json, reason text, version int
    )"""

_HAND_OVER = sa.text(
    f"""
    INSERT INTO handed (node, call_id, client, state, due_at, attempts, created_at, call, progress, reason, version,
                        worker, epoch, is_told, ended_at)
    SELECT r.*, CASE r.state WHEN 'waiting' THEN '' ELSE :me END, a.epoch, r.state <> 'waiting',
           CASE WHEN r.state <> 'waiting' THEN {_NOW} END
    {_ROWS} CROSS JOIN account a
    ON CONFLICT (node, call_id) DO UPDATE SET
        state = excluded.state, due_at = excluded.due_at, attempts = 0, is_told = excluded.is_told,
        progress = CASE excluded.state WHEN 'waiting' THEN handed.progress ELSE excluded.progress END,
        reason = CASE excluded.state WHEN 'waiting' THEN handed.reason ELSE excluded.reason END,
        version = greatest(handed.version + 1, excluded.version), ended_at = excluded.ended_at
    WHERE handed.state = 'failed' AND excluded.state <> 'failed'
    """
)

# Whoever hands over a call that is over already has not heard of that, or has let it be retried since.
_TELL_AGAIN = sa.text(
    "UPDATE handed SET is_told = false WHERE node = :me AND call_id = ANY(:calls) AND state <> 'waiting' AND is_told"
).bindparams(sa.bindparam("calls", type_=sa.ARRAY(sa.Text)))

_REMIND = sa.text(
    f"""
    INSERT INTO handed (node, call_id, client, state, due_at, attempts, created_at, call, progress, reason, version,
                        worker, epoch, is_told, ended_at)
    SELECT r.*, :me, '', false, CASE WHEN r.state <> 'waiting' THEN {_NOW} END {_ROWS}
    ON CONFLICT (node, call_id) DO UPDATE SET
        state = excluded.state, due_at = excluded.due_at, attempts = excluded.attempts, progress = excluded.progress,
        reason = excluded.reason, version = excluded.version, worker = excluded.worker, is_told = false,
        ended_at = excluded.ended_at
    WHERE handed.version < excluded.version
    """
)

_TO_TELL = sa.text(
    "SELECT * FROM handed WHERE node = :me AND NOT is_told AND state <> 'waiting' ORDER BY number LIMIT :most"
)
_TOLD = sa.text("UPDATE handed SET is_told = true WHERE number = :number AND version = :version")
_REVIVE = sa.text(
    """
    UPDATE handed SET state = 'waiting', due_at = 0, version = version + 1, ended_at = NULL
    WHERE number = :number AND version = :version
    """
)
_UNKNOWN = sa.text(
    """
    SELECT c.call_id FROM unnest(:calls) AS c (call_id)
    WHERE NOT EXISTS (SELECT 1 FROM handed h WHERE h.node = :me AND h.call_id = c.call_id)
    """
).bindparams(sa.bindparam("calls", type_=sa.ARRAY(sa.Text)))
_FORGET = sa.text(
    """
    DELETE FROM handed WHERE number IN (
        SELECT h.number FROM handed h
        WHERE h.ended_at < :at AND h.state IN ('done', 'skipped')
          AND (h.node = :me AND h.is_told OR NOT EXISTS (SELECT 1 FROM nodes n WHERE n.name = h.node))
        ORDER BY h.ended_at LIMIT :most
    )
    """
)
_OF_CLIENT = sa.text(
    """
    SELECT h.*, h.node <> coalesce(b.node, h.node) AS is_foreign, asked.place
    FROM unnest(:clients, :befores, :most) WITH ORDINALITY AS asked (client, before, most, place)
    LEFT JOIN handed b ON b.number = asked.before
    CROSS JOIN LATERAL (
        SELECT * FROM handed o WHERE o.client = asked.client AND o.number <> asked.before
        ORDER BY o.number DESC LIMIT asked.most
    ) h
    ORDER BY asked.place, h.number DESC
    """
).bindparams(
    sa.bindparam("clients", type_=sa.ARRAY(sa.Text)),
    sa.bindparam("befores", type_=sa.ARRAY(sa.Integer)),
    sa.bindparam("most", type_=sa.ARRAY(sa.Integer)),
)


class _Change(NamedTuple):
    number: int
    client: str
    releases: bool
    values: dict[str, Any]


class _Asked(NamedTuple):
    """For a client's registrations but the one with the number `before`."""

    client: str
    before: int
    most: int


_Changed: TypeAlias = Remembered | StorageRefused | None
"""None where another node has the client."""

_log = structlog.get_logger(__name__)


class SharedRegistrations:
    """What `Delivery` works at while the shared database is there. `node` is this one.

    `latest` tells what the server's clock shows at most, by whoever measures it (`Share.latest`). While Kommo is out of
    reach (`is_answered`) one registration at a time tries whether it still is; the rest is left to the other nodes.
    """

    def __init__(self, database: SharedDatabase, memory: Memory, node: str) -> None:
        self._database = database
        self._memory = memory
        self._node = node
        self.latest: Callable[[], float] = lambda: float("inf")
        self.is_answered: Callable[[], bool] = lambda: True
        self._clients: dict[int, str] = {}
        self._asking: Gathering[_Asked, list[Registration]] = Gathering(self._ask_all, most=MOST_CLIENTS)
        self._changing: Gathering[_Change, _Changed] = Gathering(self._change_all, most=MOST_CHANGES)

    # As `storage.registrations.Registrations`

    async def in_line(self, now: float, *, limit: int, busy: Sequence[str] = ()) -> Line:
        """The oldest waiting registration of each client who is nobody else's; he is this node's from now on."""
        due = now
        if not self.is_answered():
            limit, due = max(0, 1 - len(busy)), now - OTHERS_FIRST
        mine = {"me": self._node, "latest": self.latest()}
        given = {**mine, "now": due, "busy": list(busy), "most": limit, "awaited": MEMORY_AWAITED}

        def claim(connection: sa.Connection) -> list[Registration]:
            # Of walks that ended without a word, and of looks whose answer was lost: nobody else could have them.
            connection.execute(_RELEASE_ALL_BUT, given)
            rows = connection.execute(_DUE, given).mappings().all()
            clients = list({row["client"] for row in rows})
            claimed = set(connection.execute(_CLAIM, {**mine, "clients": clients}).scalars())
            return [_registration(row) for row in rows if row["client"] in claimed]

        found = await self._database.write(claim)
        self._clients |= {one.id: one.client for one in found}
        return Line(found, now + LOOK_AGAIN)

    async def of_client(self, client: str, *, before: int, limit: int = 50) -> list[Registration]:
        """The client's other registrations, the latest first; what calls of other nodes are named says whose."""
        found = await self._asking.ask(_Asked(client, before, limit))
        self._clients |= {one.id: client for one in found}
        return found

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

    async def hand_over(self, rows: Mapping[int, Remembered]) -> None:
        """Let the others have these registrations of this node; those that they know already stay as they are.

        Its own rows, by whose numbers they are given, say so; what can't be handed over has failed.
        """
        refused = await self._send(_HAND_OVER, rows, self._memory.handing_over)
        for number, reason in refused.items():
            _log.error("registration_not_shared", call_id=rows[number].call_id, error=reason)
        await self._memory.refused(refused)
        await self._memory.handed_over({number: row for number, row in rows.items() if number not in refused})

    async def tell_ended(self, rows: Mapping[int, Remembered]) -> None:
        """Let the others know of registrations of this node that ended without them."""
        refused = await self._send(_HAND_OVER, rows)
        await self._memory.keep([row for number, row in rows.items() if number not in refused])

    async def remind(self, rows: Collection[Remembered]) -> None:
        """The database was put back as it was earlier: what this node remembers of later goes on top."""
        numbered = dict(enumerate(rows))
        for number, reason in (await self._send(_REMIND, numbered)).items():
            _log.error("not_reminded", call_id=numbered[number].call_id, error=reason)

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

    async def unknown(self, rows: Collection[Remembered]) -> list[Remembered]:
        """Of this node's those that are not here any more, as failed ones: what became of them nobody knows."""
        given = {"me": self._node, "calls": [row.call_id for row in rows]}
        lost = set(await self._database.read(lambda connection: connection.execute(_UNKNOWN, given).scalars().all()))
        return [replace(row, state=State.FAILED, reason=LOST) for row in rows if row.call_id in lost]

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

    async def _send(
        self,
        statement: sa.TextClause,
        rows: Mapping[int, Remembered],
        before_commit: Callable[[Sequence[int]], Awaitable[None]] | None = None,
    ) -> dict[int, str]:
        """Why some can't be there."""

        def send(connection: sa.Connection, numbers: Sequence[int]) -> Sequence[None]:
            given = as_json([rows[number].as_json() for number in numbers])
            connection.execute(statement, {"me": self._node, "rows": given})
            if waiting := [rows[number].call_id for number in numbers if rows[number].state == State.WAITING]:
                connection.execute(_TELL_AGAIN, {"me": self._node, "calls": waiting})
            return [None] * len(numbers)

        sent = await self._database.write_each(send, list(rows), before_commit=before_commit)
        return {number: str(refused) for number, refused in zip(rows, sent, strict=True) if refused is not None}

    async def _ask_all(self, asked: list[_Asked]) -> list[list[Registration]]:
        """One look for many walks: a server that is far away has no connection for each."""
        clients, befores, most = (list(values) for values in zip(*asked, strict=True))
        given = {"clients": clients, "befores": befores, "most": most}
        rows = await self._database.read(lambda connection: connection.execute(_OF_CLIENT, given).mappings().all())
        found: list[list[Registration]] = [[] for _ in asked]
        for row in rows:
            prefix = f"{row['node']}:" if row["is_foreign"] else ""
            found[row["place"] - 1].append(_registration(row, prefix=prefix))
        return found

    async def _change(self, number: int, *, releases: bool = False, **values: Any) -> None:
        values = {"number": number, "more_attempts": 0, **values}
        row = await self._changing.ask(_Change(number, self._clients.get(number, ""), releases, values))
        if isinstance(row, StorageRefused):
            raise row
        if row is None:
            raise StorageError(f"registration {number}: another node has taken its client over: it sees to it")
        # On this node's disk, too, before anything is sent: the shared database may be put back as it was.
        await self._memory.keep([row])
        if releases:
            self._clients.pop(number, None)

    async def _change_all(self, changes: list[_Change]) -> list[_Changed]:
        return await self._database.write_each(self._change_some, changes)

    def _change_some(self, connection: sa.Connection, changes: Sequence[_Change]) -> list[Remembered | None]:
        given = {"me": self._node, "changes": as_json([change.values for change in changes])}
        done = {row["number"]: remembered_of(row) for row in connection.execute(_CHANGE, given).mappings()}
        if released := [change.client for change in changes if change.releases]:
            connection.execute(_RELEASE, {"me": self._node, "clients": released})
        return [done.get(change.number) for change in changes]


async def forget_before(database: SharedDatabase, node: str, at: float, most: int) -> int:
    """Remove at most so many that were over before `at` (Unix s), and whose node knows it or is gone; how many.

    None goes while some node may still remember it as it was before.
    """
    given = {"me": node, "at": min(at, time.time() - KEPT_FOR - DAY), "most": most}
    return await database.write(lambda connection: connection.execute(_FORGET, given).rowcount)


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
