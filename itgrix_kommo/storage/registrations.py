"""Registrations: ended calls on their way into the CRM, each a row before anything is sent."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa

from itgrix_kommo.storage.database import Database, aliases, horizon, registrations


class State(StrEnum):
    WAITING = "waiting"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    HANDED = "handed"
    """In the database that several nodes share: there it goes on."""


UNFINISHED = (State.WAITING, State.HANDED)
"""Not in Kommo yet, and on its way there by itself."""


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
    """`progress` is what the steps have reached, in their own words; `due_at` is Unix seconds.

    `node` is the one whose call it is; `is_elsewhere`: another one worked for this client last.
    """

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
    node: str
    is_elsewhere: bool = False


class Line(NamedTuple):
    """`next_at` is when the next one will be due that is not yet, in Unix seconds."""

    due: list[Registration]
    next_at: float | None


class Registrations:
    def __init__(self, database: Database, node: str) -> None:
        self._database = database
        self._node = node

    async def keep(self, new: NewRegistration) -> int | None:
        """Make a row of an ended call; its number, or None where any of the call's ids is known already."""
        (number,) = await self.keep_all([new])
        return number

    async def keep_all(self, news: Sequence[NewRegistration]) -> list[int | None]:
        """The same for some ended calls, in their order, all of them or none."""
        now = time.time()

        def keep(connection: sa.Connection) -> list[int | None]:
            given = {"node": self._node, "some": [alias for new in news for alias in new.aliases]}
            known = set(connection.execute(_KNOWN, given).scalars())
            numbers: list[int | None] = []
            rows = []
            for new in news:
                if known.isdisjoint(new.aliases):
                    known |= new.aliases
                    number = connection.execute(_INSERT, self._values(new, now)).scalar_one()
                    rows += [{"node": self._node, "alias": one, "registration_id": number} for one in new.aliases]
                    numbers.append(number)
                else:
                    numbers.append(None)
            if rows:
                connection.execute(_INSERT_ALIASES, rows)
            return numbers

        return await self._database.write(keep)

    def _values(self, new: NewRegistration, now: float) -> dict[str, Any]:
        return {
            "node": self._node,
            "call_id": new.call_id,
            "client": new.client,
            "state": new.state,
            "due_at": now,
            "created_at": now,
            "call": new.call,
            "progress": {},
            "reason": new.reason,
        }

    async def in_line(self, now: float, *, limit: int, busy: Sequence[str] = ()) -> Line:
        """The oldest waiting registration of each client, if it is due; `busy` clients are being served already.

        A client whose oldest one waits for its retry holds up only his own.
        """
        given = {"node": self._node, "now": now, "most": limit, "busy": busy}

        def read(connection: sa.Connection) -> Line:
            due = [_registration(row) for row in connection.execute(_DUE, given).mappings()]
            return Line(due, connection.execute(_NEXT_AT, given).scalar())

        return await self._database.read(read)

    async def of_client(self, client: str, *, before: int, limit: int = 50) -> list[Registration]:
        """The client's registrations older than `before`, the latest first."""
        return await self._read(_OF_CLIENT, client=client, before=before, most=limit)

    async def progress_of(self, client: str, *, before: int, limit: int = 50) -> list[tuple[int, str, str]]:
        """Of the same registrations number, call id, and progress as JSON text: that of a good client is much."""
        given = {"node": self._node, "client": client, "before": before, "most": limit}

        def read(connection: sa.Connection) -> list[tuple[int, str, str]]:
            return [(number, call_id, text) for number, call_id, text in connection.execute(_PROGRESS_OF, given)]

        return await self._database.read(read)

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
        return await self._database.read(lambda connection: list(connection.execute(query).scalars()))

    async def by_call(self, call_id: str) -> Registration | None:
        """The registration of the call that ever had this linkedid or uniqueid."""
        return next(iter(await self._read(_BY_CALL, alias=call_id)), None)

    async def save_progress(self, number: int, progress: dict[str, Any]) -> None:
        await self._change(_SAVE_PROGRESS, row=number, new_progress=progress)

    async def postpone(self, number: int, *, due_at: float, reason: str) -> None:
        await self._change(_POSTPONE, row=number, new_due_at=due_at, new_reason=reason)

    async def close(
        self, number: int, state: State, *, reason: str = "", progress: dict[str, Any] | None = None
    ) -> None:
        """`progress` is what the row does not have yet."""
        if progress is None:
            await self._change(_CLOSE, row=number, new_state=state, new_reason=reason)
        else:
            await self._change(
                _CLOSE_WITH_PROGRESS, row=number, new_state=state, new_reason=reason, new_progress=progress
            )

    async def retry(self, number: int, now: float) -> bool:
        """Put a failed one back in line; False where there is no such one."""
        statement = (
            sa.update(registrations)
            .where(
                registrations.c.node == self._node, registrations.c.id == number, registrations.c.state == State.FAILED
            )
            .values(state=State.WAITING, due_at=now, attempts=0)
        )
        return await self._database.write(lambda connection: connection.execute(statement).rowcount == 1)

    async def get(self, number: int) -> Registration | None:
        return next(iter(await self._read(_GET, row=number)), None)

    async def counts(self) -> dict[State, int]:
        found = await self._database.read(lambda connection: connection.execute(_COUNTS, {"node": self._node}).all())
        always = [state for state in State if state is not State.HANDED]
        return dict.fromkeys(always, 0) | {State(state): count for state, count in found}

    async def forget_before(self, at: float, most: int) -> int:
        """Remove at most so many finished ones that were kept before `at` (Unix s); how many there were.

        What waits or has failed stays. From then on `horizon` is `at`.
        """
        table = registrations
        old = (
            sa.select(table.c.id)
            .where(table.c.node == self._node, table.c.state.in_([State.DONE, State.SKIPPED]), table.c.created_at < at)
            .order_by(table.c.id)
            .limit(most)
        )

        def forget(connection: sa.Connection) -> int:
            numbers = list(connection.execute(old).scalars())
            if numbers:
                connection.execute(sa.delete(aliases).where(aliases.c.registration_id.in_(numbers)))
                connection.execute(sa.delete(table).where(table.c.id.in_(numbers)))
                here = horizon.c.node == self._node
                if connection.execute(sa.update(horizon).where(here).values(forgotten_before=at)).rowcount == 0:
                    connection.execute(sa.insert(horizon).values(node=self._node, forgotten_before=at))
            return len(numbers)

        return await self._database.write(forget)

    async def horizon(self) -> float:
        """Calls of before this (Unix s) may have been registered without a trace of it; 0.0: there are none such."""
        query = sa.select(horizon.c.forgotten_before).where(horizon.c.node == self._node)
        return await self._database.read(lambda connection: connection.execute(query).scalar() or 0.0)

    async def between(
        self, since: float, until: float, *, states: Collection[State] = (), client: str = "", limit: int
    ) -> list[Registration]:
        """Those of calls that began between the two (Unix seconds), the latest first; `client` is a part of his key."""
        table = registrations
        began = table.c.call["started_at"].as_float()
        query = sa.select(table).where(
            table.c.node == self._node, table.c.created_at >= since, began >= since, began <= until
        )
        if states:
            query = query.where(table.c.state.in_(states))
        if client:
            query = query.where(table.c.client.contains(client, autoescape=True))
        return await self._read(query.order_by(table.c.id.desc()).limit(limit))

    async def before_in_line(self, registration: Registration) -> int | None:
        """The id of the client's oldest waiting registration, if this one stands behind it."""
        table = registrations
        query = sa.select(sa.func.min(table.c.id)).where(
            table.c.node == self._node,
            table.c.client == registration.client,
            table.c.state == State.WAITING,
            table.c.id < registration.id,
        )
        return await self._database.read(lambda connection: connection.execute(query).scalar())

    async def oldest_waiting(self) -> float | None:
        """When the oldest unfinished one was kept, in Unix seconds; None where there is none."""
        given = {"node": self._node}
        kept_at: float | None = await self._database.read(
            lambda connection: connection.execute(_OLDEST_UNFINISHED, given).scalar()
        )
        return kept_at

    async def latest(self, limit: int) -> list[Registration]:
        return await self._read(_LATEST, most=limit)

    async def _read(self, query: sa.Select[Any], **given: Any) -> list[Registration]:
        given["node"] = self._node
        rows = await self._database.read(lambda connection: connection.execute(query, given).mappings().all())
        return [_registration(row) for row in rows]

    async def _change(self, statement: sa.Update, **given: Any) -> None:
        await self._database.write(lambda connection: connection.execute(statement, given))


# Made once: to build and to compare a statement costs more than to run it.

_HERE = registrations.c.node == sa.bindparam("node")
_MOST = sa.bindparam("most", type_=sa.Integer)
_ROW = registrations.c.id == sa.bindparam("row")

_KNOWN = sa.select(aliases.c.alias).where(
    aliases.c.node == sa.bindparam("node"), aliases.c.alias.in_(sa.bindparam("some", expanding=True))
)
_INSERT = sa.insert(registrations).returning(registrations.c.id)
_INSERT_ALIASES = sa.insert(aliases)


def _heads_its_line() -> sa.ColumnElement[bool]:
    """The oldest waiting one of each client but the busy ones; the others stand behind, whatever their `due_at`."""
    table, before = registrations, registrations.alias()
    older = sa.exists().where(
        before.c.node == table.c.node,
        before.c.client == table.c.client,
        before.c.state == State.WAITING,
        before.c.id < table.c.id,
    )
    is_busy = table.c.client.in_(sa.bindparam("busy", expanding=True))
    return sa.and_(_HERE, table.c.state == State.WAITING, ~is_busy, ~older)


_DUE = (
    sa.select(registrations)
    # `+ 0`: no index on it, or the database sorts all that is due for each look, instead of following the line.
    .where(_heads_its_line(), registrations.c.due_at + 0 <= sa.bindparam("now"))
    .order_by(registrations.c.id)
    .limit(_MOST)
)
_NEXT_AT = (
    sa.select(registrations.c.due_at)
    .where(_heads_its_line(), registrations.c.due_at > sa.bindparam("now"))
    .order_by(registrations.c.due_at)
    .limit(1)
)


def _of_client(*columns: Any) -> sa.Select[Any]:
    return (
        sa.select(*columns)
        .where(_HERE, registrations.c.client == sa.bindparam("client"), registrations.c.id < sa.bindparam("before"))
        .order_by(registrations.c.id.desc())
        .limit(_MOST)
    )


_OF_CLIENT = _of_client(registrations)
_PROGRESS_OF = _of_client(
    registrations.c.id, registrations.c.call_id, sa.type_coerce(registrations.c.progress, sa.Text)
)
_BY_CALL = (
    sa.select(registrations)
    .join(aliases, aliases.c.registration_id == registrations.c.id)
    .where(aliases.c.node == sa.bindparam("node"), aliases.c.alias == sa.bindparam("alias"))
)
_GET = sa.select(registrations).where(_HERE, _ROW)
_OLDEST_UNFINISHED = sa.select(sa.func.min(registrations.c.created_at)).where(
    # The first of each state by the index, however many stand behind it.
    registrations.c.id.in_(
        sa.union_all(
            *(
                sa.select(sa.func.min(registrations.c.id)).where(_HERE, registrations.c.state == state)
                for state in UNFINISHED
            )
        )
    )
)
_COUNTS = sa.select(registrations.c.state, sa.func.count()).where(_HERE).group_by(registrations.c.state)
_LATEST = sa.select(registrations).where(_HERE).order_by(registrations.c.id.desc()).limit(_MOST)

_SAVE_PROGRESS = sa.update(registrations).where(_ROW).values(progress=sa.bindparam("new_progress"))
_POSTPONE = (
    sa.update(registrations)
    .where(_ROW)
    .values(
        due_at=sa.bindparam("new_due_at"),
        reason=sa.bindparam("new_reason"),
        attempts=registrations.c.attempts + 1,
    )
)
_CLOSE = sa.update(registrations).where(_ROW).values(state=sa.bindparam("new_state"), reason=sa.bindparam("new_reason"))
_CLOSE_WITH_PROGRESS = _CLOSE.values(progress=sa.bindparam("new_progress"))


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
        node=row["node"],
    )
