"""Registrations: ended calls on their way into the CRM, each a row before anything is sent."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any, NamedTuple

import sqlalchemy as sa

from itgrix_kommo.kommo.gathering import Gathering
from itgrix_kommo.storage.database import Database, aliases, registrations


class State(StrEnum):
    WAITING = "waiting"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class NewRegistration:
    """`client` is the key by which order is kept; `call` the ended call as JSON; `reason` says why it is skipped."""

    call_id: str
    aliases: frozenset[str]
    client: str
    call: dict[str, Any]
    state: State = State.WAITING
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Registration:
    """`progress` is what the steps have reached, in their own words; `due_at` is Unix seconds."""

    id: int
    call_id: str
    client: str
    state: State
    due_at: float
    attempts: int
    created_at: float
    call: dict[str, Any]
    progress: dict[str, Any]
    reason: str


MOST_CHANGES = 500
"""Rows changed in one transaction: a commit costs more than the changes in it."""


class _Change(NamedTuple):
    """`what` names a statement of `_CHANGES`, `values` are its parameters."""

    what: str
    values: dict[str, Any]


class Registrations:
    """Changes of rows that wait for the database together are committed together."""

    def __init__(self, database: Database, node: str) -> None:
        self._database = database
        self._node = node
        self._changing: Gathering[_Change, None] = Gathering(self._change_all, most=MOST_CHANGES)

    async def keep(self, new: NewRegistration) -> int | None:
        """Make a row of an ended call; its number, or None where any of the call's ids is known already."""
        known = (
            sa.select(aliases.c.alias).where(aliases.c.node == self._node, aliases.c.alias.in_(new.aliases)).limit(1)
        )
        now = time.time()
        insert = (
            sa.insert(registrations)
            .values(
                node=self._node,
                call_id=new.call_id,
                client=new.client,
                state=new.state,
                due_at=now,
                created_at=now,
                call=new.call,
                progress={},
                reason=new.reason,
            )
            .returning(registrations.c.id)
        )
        async with self._database.writing() as connection:
            if (await connection.execute(known)).first() is not None:
                return None
            number: int = (await connection.execute(insert)).scalar_one()
            await connection.execute(
                sa.insert(aliases),
                [{"node": self._node, "alias": alias, "registration_id": number} for alias in new.aliases],
            )
            return number

    async def due(self, now: float, *, limit: int, busy: Sequence[str] = ()) -> list[Registration]:
        """The oldest waiting registration of each client, if it is due; `busy` clients are being served already.

        A client whose oldest one waits for its retry holds up only his own.
        """
        table = registrations
        query = (
            sa.select(table)
            # `+ 0`: no index on it, or the database sorts all that is due for each look, instead of following the line.
            .where(self._heads_its_line(busy), table.c.due_at + 0 <= now)
            .order_by(table.c.id)
            .limit(limit)
        )
        async with self._database.reading() as connection:
            return [_registration(row) for row in (await connection.execute(query)).mappings()]

    async def of_client(self, client: str, *, before: int, limit: int = 50) -> list[Registration]:
        """The client's registrations older than `before`, the latest first."""
        table = registrations
        query = (
            sa.select(table)
            .where(table.c.node == self._node, table.c.client == client, table.c.id < before)
            .order_by(table.c.id.desc())
            .limit(limit)
        )
        async with self._database.reading() as connection:
            return [_registration(row) for row in (await connection.execute(query)).mappings()]

    async def recent_clients(self, most: int) -> list[str]:
        """The clients of the latest registrations, the latest first; who hides his number is none."""
        table = registrations
        query = (
            sa.select(table.c.client)
            .where(table.c.node == self._node, table.c.client != table.c.call_id)
            .group_by(table.c.client)
            .order_by(sa.func.max(table.c.id).desc())
            .limit(most)
        )
        async with self._database.reading() as connection:
            return list((await connection.execute(query)).scalars())

    async def by_call(self, call_id: str) -> Registration | None:
        """The registration of the call that ever had this linkedid or uniqueid."""
        query = (
            sa.select(registrations)
            .join(aliases, aliases.c.registration_id == registrations.c.id)
            .where(aliases.c.node == self._node, aliases.c.alias == call_id)
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).mappings().first()
            return _registration(row) if row else None

    async def next_due(self, *, busy: Sequence[str] = ()) -> float | None:
        """When `due` will next have one that it has not now, in Unix seconds."""
        table = registrations
        query = sa.select(table.c.due_at).where(self._heads_its_line(busy)).order_by(table.c.due_at).limit(1)
        async with self._database.reading() as connection:
            due: float | None = (await connection.execute(query)).scalar()
            return due

    async def save_progress(self, number: int, progress: dict[str, Any]) -> None:
        await self._changing.ask(_Change("progress", {"row": number, "new_progress": progress}))

    async def postpone(self, number: int, *, due_at: float, reason: str) -> None:
        values = {"row": number, "new_due_at": due_at, "new_reason": reason}
        await self._changing.ask(_Change("postpone", values))

    async def close(self, number: int, state: State, *, reason: str = "") -> None:
        await self._changing.ask(_Change("close", {"row": number, "new_state": state, "new_reason": reason}))

    async def retry(self, number: int, now: float) -> bool:
        """Put a failed one back in line; False where there is no such one."""
        statement = (
            sa.update(registrations)
            .where(
                registrations.c.node == self._node, registrations.c.id == number, registrations.c.state == State.FAILED
            )
            .values(state=State.WAITING, due_at=now, attempts=0)
        )
        async with self._database.writing() as connection:
            return (await connection.execute(statement)).rowcount == 1

    async def get(self, number: int) -> Registration | None:
        query = sa.select(registrations).where(registrations.c.node == self._node, registrations.c.id == number)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).mappings().first()
            return _registration(row) if row else None

    async def counts(self) -> dict[State, int]:
        query = (
            sa.select(registrations.c.state, sa.func.count())
            .where(registrations.c.node == self._node)
            .group_by(registrations.c.state)
        )
        async with self._database.reading() as connection:
            found = {State(state): count for state, count in await connection.execute(query)}
        return {state: found.get(state, 0) for state in State}

    async def latest(self, limit: int) -> list[Registration]:
        query = (
            sa.select(registrations)
            .where(registrations.c.node == self._node)
            .order_by(registrations.c.id.desc())
            .limit(limit)
        )
        async with self._database.reading() as connection:
            return [_registration(row) for row in (await connection.execute(query)).mappings()]

    def _heads_its_line(self, busy: Sequence[str]) -> sa.ColumnElement[bool]:
        """The oldest waiting one of each client but the busy ones; the others stand behind, whatever their `due_at`."""
        table, before = registrations, registrations.alias()
        older = sa.exists().where(
            before.c.node == self._node,
            before.c.client == table.c.client,
            before.c.state == State.WAITING,
            before.c.id < table.c.id,
        )
        return sa.and_(table.c.node == self._node, table.c.state == State.WAITING, table.c.client.not_in(busy), ~older)

    async def _change_all(self, changes: Iterable[_Change]) -> list[None]:
        """No row is changed twice here: who changes one waits until that is done."""
        ordered = sorted(changes, key=lambda change: change.what)
        async with self._database.writing() as connection:
            for what, same in groupby(ordered, key=lambda change: change.what):
                await connection.execute(_CHANGES[what], [change.values for change in same])
        return [None] * len(ordered)


def _changing(**values: Any) -> sa.Update:
    return sa.update(registrations).where(registrations.c.id == sa.bindparam("row")).values(**values)


_CHANGES = {
    "progress": _changing(progress=sa.bindparam("new_progress")),
    "postpone": _changing(
        due_at=sa.bindparam("new_due_at"),
        reason=sa.bindparam("new_reason"),
        attempts=registrations.c.attempts + 1,
    ),
    "close": _changing(state=sa.bindparam("new_state"), reason=sa.bindparam("new_reason")),
}


def _registration(row: sa.RowMapping) -> Registration:
    return Registration(
        id=row["id"],
        call_id=row["call_id"],
        client=row["client"],
        state=State(row["state"]),
        due_at=row["due_at"],
        attempts=row["attempts"],
        created_at=row["created_at"],
        call=row["call"],
        progress=row["progress"],
        reason=row["reason"],
    )
