"""What one of several nodes remembers on its own disk: its part in the account, and registrations it has had."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as insert_file

from itgrix_kommo.storage.database import Database, membership, registrations, remembered
from itgrix_kommo.storage.registrations import State
from itgrix_kommo.storage.shared import insert as insert_server

KEPT_FOR = 7 * 86400.0
"""Seconds that registrations are remembered: older copies of the shared database are not put back."""

MOST_AT_ONCE = 200

IN_DOUBT = "whether the other nodes have it shows once their database answers"
"""Why a registration that may have been handed over waits: another node may be at it."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """A registration as the shared database has it; `node` is the one whose call it is."""

    node: str
    call_id: str
    client: str
    state: str
    due_at: float
    attempts: int
    created_at: float
    call: dict[str, Any]
    progress: dict[str, Any]
    reason: str
    version: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Part(NamedTuple):
    """`homes` are the slots of the limit that are this node's, `tick` and `epoch` what it saw of the database last.

    `heard_at` is when that was (Unix s), None where it is not known.
    """

    homes: frozenset[int] = frozenset()
    tick: int = 0
    epoch: str = ""
    heard_at: float | None = None


class Memory:
    def __init__(self, database: Database, node: str) -> None:
        self._database = database
        self._node = node

    async def part(self) -> Part:
        query = sa.select(membership).where(membership.c.node == self._node)
        row = await self._database.read(lambda connection: connection.execute(query).mappings().first())
        return Part(frozenset(row["homes"]), row["tick"], row["epoch"], row["heard_at"]) if row else Part()

    async def keep_part(self, part: Part) -> None:
        values = {"node": self._node, **part._asdict(), "homes": sorted(part.homes)}
        await self._database.write(lambda connection: _put(connection, membership, [values], ("node",)))

    async def keep(self, rows: Collection[Remembered]) -> None:
        await self._database.write(lambda connection: _keep(connection, rows))

    async def rows(self, after: tuple[str, str] = ("", "")) -> list[Remembered]:
        """All that is remembered, a part at a time: those after this (node, call id). Older ones the others forget."""
        table = remembered
        query = (
            sa.select(table.c.row)
            .where(sa.tuple_(table.c.node, table.c.call_id) > sa.tuple_(*after))
            .where(table.c.saved_at >= time.time() - KEPT_FOR)
            .order_by(table.c.node, table.c.call_id)
            .limit(MOST_AT_ONCE)
        )
        found = await self._database.read(lambda connection: connection.execute(query).scalars().all())
        return [Remembered(**row) for row in found]

    async def forget_before(self, at: float, most: int) -> int:
        """Remove at most so many that were saved before `at` (Unix s); how many there were."""
        key = sa.tuple_(remembered.c.node, remembered.c.call_id)
        old = sa.select(remembered.c.node, remembered.c.call_id).where(remembered.c.saved_at < at).limit(most)
        delete = sa.delete(remembered).where(key.in_(old))
        return await self._database.write(lambda connection: connection.execute(delete).rowcount)

    async def to_hand_over(self) -> dict[int, Remembered]:
        """Registrations of this node that wait or are in doubt, by their numbers here, the oldest first."""
        found = await self._which(sa.or_(registrations.c.state == State.WAITING, _IS_IN_DOUBT), 0)
        return {
            number: replace(row, state=State.WAITING, reason="") if row.state == State.HANDED else row
            for number, row in found.items()
        }

    async def handed(self, after: int) -> dict[int, Remembered]:
        """Those that it has handed over, and whose end it has not heard yet; whose numbers are above `after`."""
        return await self._which(sa.and_(registrations.c.state == State.HANDED, ~_IS_IN_DOUBT), after)

    async def _which(self, condition: sa.ColumnElement[bool], after: int) -> dict[int, Remembered]:
        table = registrations
        query = (
            sa.select(table)
            .where(table.c.node == self._node, condition, table.c.id > after)
            .order_by(table.c.id)
            .limit(MOST_AT_ONCE)
        )
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        return {row["id"]: _handed(row) for row in rows}

    async def ended_unknown(self, after: int) -> dict[int, Remembered]:
        """Of what ended lately those whose end the others never heard of, whose numbers are above `after`.

        Who had failed in common may have been retried alone.
        """
        table, known = registrations, remembered
        of_it = sa.and_(known.c.node == table.c.node, known.c.call_id == table.c.call_id)
        has_failed = sa.and_(known.c.row["state"].as_string() == State.FAILED, table.c.state != State.FAILED)
        is_known = sa.exists().where(of_it, ~has_failed)
        version = sa.select(known.c.version).where(of_it).scalar_subquery()
        query = (
            sa.select(table, version.label("before"))
            .where(table.c.node == self._node, table.c.state.not_in([State.WAITING, State.HANDED]), table.c.id > after)
            .where(table.c.created_at > time.time() - KEPT_FOR, ~is_known)
            .order_by(table.c.id)
            .limit(MOST_AT_ONCE)
        )
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        return {row["id"]: _handed(row, 0 if row["before"] is None else row["before"] + 1) for row in rows}

    async def handing_over(self, rows: Iterable[int]) -> None:
        """From now on these may be in the shared database: they are not this node's alone, whatever becomes of it."""
        update = sa.update(registrations).where(
            registrations.c.id == sa.bindparam("row"), registrations.c.state == State.WAITING
        )
        given = [{"row": number} for number in rows]
        await self._database.write(
            lambda connection: connection.execute(update.values(state=State.HANDED, reason=IN_DOUBT), given)
        )

    async def refused(self, reasons: Mapping[int, str]) -> None:
        """The shared database can't hold these: a person has to look after them."""
        if not reasons:
            return
        update = sa.update(registrations).where(
            registrations.c.id == sa.bindparam("row"), sa.or_(registrations.c.state == State.WAITING, _IS_IN_DOUBT)
        )
        given = [{"row": number, "why": reason} for number, reason in reasons.items()]
        await self._database.write(
            lambda connection: connection.execute(update.values(state=State.FAILED, reason=sa.bindparam("why")), given)
        )

    async def handed_over(self, rows: Mapping[int, Remembered]) -> None:
        """These are in the shared database now."""
        if not rows:
            return
        update = sa.update(registrations).where(registrations.c.id == sa.bindparam("row"), _IS_IN_DOUBT)

        def write(connection: sa.Connection) -> None:
            connection.execute(update.values(reason=""), [{"row": number} for number in rows])
            known = sa.select(remembered.c.call_id).where(
                remembered.c.node == self._node, remembered.c.call_id.in_([row.call_id for row in rows.values()])
            )
            before = set(connection.execute(known).scalars())
            _keep(connection, [row for row in rows.values() if row.call_id not in before])

        await self._database.write(write)

    async def ended(self, rows: Collection[Remembered]) -> None:
        """What became of registrations of this node that it had handed over."""
        if not rows:
            return
        table = registrations
        update = (
            sa.update(table)
            .where(
                table.c.node == self._node,
                table.c.call_id == sa.bindparam("ended_call"),
                table.c.state == State.HANDED,
            )
            .values(
                state=sa.bindparam("new_state"),
                reason=sa.bindparam("new_reason"),
                progress=sa.bindparam("new_progress"),
            )
        )
        given = [
            {"ended_call": row.call_id, "new_state": row.state, "new_reason": row.reason, "new_progress": row.progress}
            for row in rows
        ]

        def write(connection: sa.Connection) -> None:
            connection.execute(update, given)
            _keep(connection, rows)

        await self._database.write(write)


_IS_IN_DOUBT = sa.and_(registrations.c.state == State.HANDED, registrations.c.reason == IN_DOUBT)


def _handed(row: sa.RowMapping, version: int = 0) -> Remembered:
    client = row["client"]
    return Remembered(
        node=row["node"],
        call_id=row["call_id"],
        # Who hides his number is known by his call, and two PBXs may count their calls alike.
        client=f"{row['node']}:{client}" if client == row["call_id"] else client,
        state=row["state"],
        due_at=row["due_at"],
        attempts=row["attempts"],
        created_at=row["created_at"],
        call=row["call"],
        progress=row["progress"],
        reason=row["reason"],
        version=version,
    )


def _keep(connection: sa.Connection, rows: Collection[Remembered]) -> None:
    now = time.time()
    values = [
        {"node": row.node, "call_id": row.call_id, "version": row.version, "saved_at": now, "row": row.as_json()}
        for row in rows
    ]
    _put(connection, remembered, values, ("node", "call_id"))


def _put(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]], key: tuple[str, ...]) -> None:
    """In the place of those with the same key."""
    if not rows:
        return
    insert = insert_file(table) if connection.dialect.name == "sqlite" else insert_server(table)
    rest = {name: insert.excluded[name] for name in table.c.keys() if name not in key}  # noqa: SIM118 (a collection's)
    connection.execute(insert.on_conflict_do_update(index_elements=key, set_=rest), rows)
