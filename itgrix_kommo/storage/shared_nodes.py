"""The nodes that share an account, for a person: who they are, letting one go that is gone for good, renaming one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import sqlalchemy as sa

from itgrix_kommo.errors import NodeAtWork, StorageError
from itgrix_kommo.kommo.limiter import MOST_PER_SECOND
from itgrix_kommo.kommo.shares import LEASE
from itgrix_kommo.storage.names import GRAVE, MOVED, both
from itgrix_kommo.storage.registrations import State
from itgrix_kommo.storage.shared import (
    CLOCK,
    SETTING,
    SharedDatabase,
    account,
    claims,
    handed,
    nodes,
    shared_phonebook,
    slots,
)

PORTION = 1000
"""Rows changed in one transaction: the nodes at work wait for none of them."""

LOOK_AGAIN = 1.0
"""Seconds between looks whether a node is away: one that is at work tells it as often."""


class Member(NamedTuple):
    """A node, or the name of a former one that still has registrations in the database.

    `seen` is for how many seconds it has not been heard of; None of a former one, whom a person or a day let go.
    `per_second` is the limit that it is configured with, `account` its Kommo account's id; None where not known.
    """

    name: str
    is_here: bool
    seen: float | None
    waiting: int
    failed: int
    slots: int
    fixed_share: int
    version: str
    per_second: int | None = None
    account: int | None = None


class Failed(NamedTuple):
    """A registration that failed; `kept_at` is Unix seconds by its node's clock."""

    call_id: str
    client: str
    kept_at: float
    reason: str


class Moved(NamedTuple):
    """Registrations that were handed over under the former name."""

    registrations: int = 0
    waiting: int = 0
    failed: int = 0


async def members(shared: SharedDatabase) -> list[Member]:
    """All, by name; none before the first daemon made the tables. Raises StorageError."""
    return await shared.read(_members)


def _members(connection: sa.Connection) -> list[Member]:
    inspector = sa.inspect(connection)
    if not inspector.has_table(nodes.name):
        return []
    # The daemons may be of the version before, whose tables don't have it.
    there = {column["name"] for column in inspector.get_columns(nodes.name)}
    columns = (nodes.c.name, nodes.c.until, nodes.c.version)
    later = (one if one.name in there else sa.null() for one in (nodes.c.per_second, nodes.c.account))
    now = _now(connection)
    query = (
        sa.select(handed.c.node, handed.c.state, sa.func.count())
        .where(handed.c.state.in_([State.WAITING, State.FAILED]))
        .group_by(handed.c.node, handed.c.state)
    )
    unfinished = {(node, state): count for node, state, count in connection.execute(query)}
    entered = {name: told for name, *told in connection.execute(sa.select(*columns, *later))}
    limit = min((one[2] for one in entered.values() if one[2] is not None), default=MOST_PER_SECOND)
    in_use = sa.select(slots.c.home, slots.c.holder, slots.c.until).where(slots.c.number <= limit)
    table = connection.execute(in_use).all()
    found = []
    for name in sorted({*entered, *(node for node, _ in unfinished)}):
        until, version, per_second, account_id = entered.get(name, (None, "", None, None))
        member = Member(
            name=name,
            is_here=until is not None and until > now,
            seen=None if until is None else round(max(0.0, now - (until - LEASE)), 1),
            waiting=unfinished.get((name, State.WAITING), 0),
            failed=unfinished.get((name, State.FAILED), 0),
            slots=sum(slot.holder == name and slot.until > now for slot in table),
            fixed_share=sum(slot.home == name for slot in table),
            version=version,
            per_second=per_second,
            account=account_id,
        )
        found.append(member)
    return found


async def failed_of(shared: SharedDatabase, name: str) -> list[Failed]:
    """What failed of this node's, the oldest first."""
    query = (
        sa.select(handed.c.call_id, handed.c.client, handed.c.created_at, handed.c.reason)
        .where(handed.c.node == name, handed.c.state == State.FAILED)
        .order_by(handed.c.number)
    )
    return await shared.read(lambda connection: [Failed(*row) for row in connection.execute(query)])


async def forget(shared: SharedDatabase, name: str) -> Moved:
    """Let a node go that is gone for good; what of it waits or had failed. Raises NodeAtWork, and StorageError.

    Its part of the limit and its claims are free; what waits the others finish; what failed nobody can retry, and it
    is over.
    """

    def forget(connection: sa.Connection) -> Moved:
        _take_turn(connection)
        _see_that_it_is_away(connection, name)
        found = _unfinished(connection, name)
        connection.execute(sa.delete(nodes).where(nodes.c.name == name))
        connection.execute(sa.update(slots).where(slots.c.home == name).values(home=None))
        connection.execute(sa.delete(claims).where(claims.c.node == name))
        over = {
            "state": State.SKIPPED.value,
            "reason": sa.func.concat("its PBX was forgotten; before: ", handed.c.reason),
            "version": handed.c.version + 1,
            "ended_at": CLOCK,
            "is_told": False,
        }
        has_failed = sa.and_(handed.c.node == name, handed.c.state == State.FAILED)
        connection.execute(sa.update(handed).where(has_failed).values(over))
        return found

    return await shared.write(forget)


async def wait_until_away(shared: SharedDatabase, names: Collection[str], tell: Callable[[str], None]) -> None:
    """Who was stopped a moment ago counts as being at work for some seconds more. Raises NodeAtWork where one is.

    `tell` is told whom it waits for.
    """
    now, before = await _heard_until(shared, names)
    while here := [name for name, until in before.items() if until > now]:
        tell(f"{' and '.join(here)} counts as being at work for {max(before.values()) - now:.0f} s more")
        await asyncio.sleep(LOOK_AGAIN)
        now, after = await _heard_until(shared, names)
        for name, until in after.items():
            if until > before.get(name, 0.0):
                raise NodeAtWork(_at_work(name, now - (until - LEASE)))
        before = after


async def _heard_until(shared: SharedDatabase, names: Collection[str]) -> tuple[float, dict[str, float]]:
    """The server's time, and until when each of these nodes counts as being at work, by that."""
    query = sa.select(nodes.c.name, nodes.c.until).where(nodes.c.name.in_(names))

    def ask(connection: sa.Connection) -> tuple[float, dict[str, float]]:
        return _now(connection), {row.name: row.until for row in connection.execute(query)}

    return await shared.read(ask)


async def rename(shared: SharedDatabase, old: str, new: str, *, was_new: bool = False) -> Moved:
    """Let all that is `old`'s be `new`'s; what of its registrations was left. `was_new`: it was called so before.

    Neither may be at work: raises NodeAtWork. Raises StorageError where `new` is another node, or a call is kept under
    either name, and then nothing is changed. What was cut short is finished when it is done again.
    """
    await shared.write(lambda connection: _rename_node(connection, old, new, was_new=was_new))
    found = await shared.read(lambda connection: _unfinished(connection, old))
    while await shared.write(lambda connection: _move_some(connection, old, new)):
        pass
    while await shared.write(lambda connection: _rename_some_phones(connection, old, new)):
        pass
    return found


def _rename_node(connection: sa.Connection, old: str, new: str, *, was_new: bool) -> None:
    _take_turn(connection)
    for name in (old, new):
        _see_that_it_is_away(connection, name)
    known = set(connection.execute(sa.select(nodes.c.name).where(nodes.c.name.in_([old, new]))).scalars())
    if len(known) == 2 and not was_new:
        raise StorageError(
            f"node.name: {new} is another PBX of this account, which is away: give this one a name of its own; "
            f"if that one is gone for good, type itgrix-kommo nodes forget {new} first"
        )
    _see_that_none_is_both(connection, old, new)
    # Who was called so before, and is again, leaves no graves of his own rows.
    connection.execute(sa.delete(handed).where(handed.c.node == new, handed.c.version >= GRAVE))
    if new in known:
        connection.execute(sa.delete(nodes).where(nodes.c.name == old))
    else:
        connection.execute(sa.update(nodes).where(nodes.c.name == old).values(name=new))
    connection.execute(sa.update(slots).where(slots.c.home == old).values(home=new))
    connection.execute(sa.delete(claims).where(claims.c.node == old))


def _move_some(connection: sa.Connection, old: str, new: str) -> int:
    """Registrations; in the place of each stays what outlasts the memory of the other nodes, as long as that lasts."""
    some = sa.select(handed.c.number).where(handed.c.node == old, handed.c.version < GRAVE).limit(PORTION)
    numbers = list(connection.execute(some).scalars())
    moved = handed.c.number.in_(numbers)
    connection.execute(sa.update(handed).where(moved).values(node=new))
    grave: dict[str, Any] = {
        "node": sa.literal(old),
        "call_id": handed.c.call_id,
        "client": sa.literal(""),
        "state": sa.literal(State.SKIPPED.value),
        "due_at": handed.c.due_at,
        "attempts": sa.literal(0),
        "created_at": handed.c.created_at,
        "call": sa.literal({}, sa.JSON),
        "progress": sa.literal({}, sa.JSON),
        "reason": sa.literal(MOVED),
        "version": sa.literal(GRAVE),
        "worker": sa.literal(new),
        "epoch": handed.c.epoch,
        "is_told": sa.true(),
        "ended_at": CLOCK,
    }
    connection.execute(sa.insert(handed).from_select(list(grave), sa.select(*grave.values()).where(moved)))
    return len(numbers)


def _rename_some_phones(connection: sa.Connection, old: str, new: str) -> int:
    table = shared_phonebook
    some = sa.select(table.c.phone).where(table.c.node == old).limit(PORTION)
    return connection.execute(sa.update(table).where(table.c.phone.in_(some)).values(node=new)).rowcount


def _see_that_none_is_both(connection: sa.Connection, old: str, new: str) -> None:
    other = handed.alias()
    query = (
        sa.select(sa.func.count(), sa.func.min(handed.c.call_id))
        .join(other, other.c.call_id == handed.c.call_id)
        .where(handed.c.node == old, handed.c.version < GRAVE, other.c.node == new, other.c.version < GRAVE)
    )
    count, one = connection.execute(query).one()
    if count:
        raise both(old, new, count, one, SETTING)


def _see_that_it_is_away(connection: sa.Connection, name: str) -> None:
    until = connection.execute(sa.select(nodes.c.until).where(nodes.c.name == name)).scalar()
    if until is not None and until > (now := _now(connection)):
        raise NodeAtWork(_at_work(name, now - (until - LEASE)))


def _at_work(name: str, seen: float) -> str:
    """For who wants to change a node that was heard of `seen` seconds ago."""
    return (
        f"{SETTING}: {name} was at work {seen:.0f} s ago: stop its daemon (systemctl stop itgrix_amo on that PBX) and "
        f"try again {LEASE:.0f} s later, or give the name of one that is away"
    )


def _unfinished(connection: sa.Connection, name: str) -> Moved:
    query = (
        sa.select(handed.c.state, sa.func.count())
        .where(handed.c.node == name, handed.c.version < GRAVE)
        .group_by(handed.c.state)
    )
    counts = {str(state): int(count) for state, count in connection.execute(query)}
    return Moved(sum(counts.values()), counts.get(State.WAITING, 0), counts.get(State.FAILED, 0))


def _take_turn(connection: sa.Connection) -> None:
    """As beats do."""
    connection.execute(sa.select(account.c.id).with_for_update())


def _now(connection: sa.Connection) -> float:
    return float(connection.execute(sa.select(CLOCK)).scalar_one())
