"""Under which names of nodes the rows of this host's database stand.

Rows go by `node.name`; who changes it leaves them under the former name, where nobody sees to them. They are a renamed
PBX's own, or another PBX's whose disk was copied: a person has to say which.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from itgrix_kommo.errors import NameChanged, StorageError
from itgrix_kommo.storage.database import Database, aliases, horizon, membership, registrations, remembered
from itgrix_kommo.storage.registrations import State

GRAVE = 1_000_000
"""The version of what is left of a row that has moved to another name: above all that nodes remember of it."""

MOVED = "its PBX has another name now"


class Kept(NamedTuple):
    """Registrations under one name; those `handed` are in the database that nodes share."""

    registrations: int = 0
    waiting: int = 0
    failed: int = 0
    handed: int = 0


def names(connection: sa.Connection) -> list[str]:
    """Those that registrations stand under: a step along the index for each, however many rows there are."""
    next_one = sa.select(sa.func.min(registrations.c.node)).where(registrations.c.node > sa.bindparam("last"))
    found: list[str] = []
    while (name := connection.execute(next_one, {"last": found[-1] if found else ""}).scalar()) is not None:
        found.append(name)
    return found


def kept(connection: sa.Connection) -> dict[str, Kept]:
    """What stands under each name."""
    return {name: _kept_under(connection, name) for name in names(connection)}


def kept_if_others(connection: sa.Connection, name: str) -> dict[str, Kept]:
    """The same where there are other names than this one; where there are not, nothing is counted."""
    return kept(connection) if set(names(connection)) - {name} else {}


def _kept_under(connection: sa.Connection, name: str) -> Kept:
    query = (
        sa.select(registrations.c.state, sa.func.count())
        .where(registrations.c.node == name)
        .group_by(registrations.c.state)
    )
    counts = {str(state): int(count) for state, count in connection.execute(query)}
    unfinished = (counts.get(state, 0) for state in (State.WAITING, State.FAILED, State.HANDED))
    return Kept(sum(counts.values()), *unfinished)


def file_of(url: str) -> Path | None:
    """The SQLite file of `storage.url`; None for a server, which may well keep the rows of several nodes."""
    address = make_url(url)
    is_file = address.get_backend_name() == "sqlite" and address.database not in {None, "", ":memory:"}
    return Path(str(address.database)) if is_file else None


class Misnamed(NamedTuple):
    """`is_refused`: all rows are another name's, so that this daemon might take another PBX's work for its own."""

    is_refused: bool
    words: str
    remedy: str


def misnamed(found: dict[str, Kept], name: str, file: Path) -> Misnamed | None:
    """What is wrong with the rows that a file holds, where this host is called `name`."""
    others = {one: rows for one, rows in found.items() if one != name}
    if not others:
        return None
    told = " and ".join(f"{told_of(rows)} of {one}" for one, rows in others.items())
    rename = " and ".join(f"itgrix-kommo nodes rename {one}" for one in others)
    if name in found:
        return Misnamed(
            is_refused=False,
            words=f"{file} holds {told} beside those of {name}, and nobody sees to them here",
            remedy=f"if this PBX was called so, stop the daemon, type {rename}, and start it again",
        )
    return Misnamed(
        is_refused=True,
        words=f"node.name: this PBX is called {name}, but {file} holds {told}, and none of {name}",
        remedy=(
            f"if this PBX was renamed, type {rename}; "
            f"if its disk was copied from another PBX, move {file.with_suffix('')}.* away"
        ),
    )


def told_of(rows: Kept) -> str:
    """How many, for a person."""
    of_them = {"waiting": rows.waiting, "failed": rows.failed, "handed over": rows.handed}
    unfinished = ", ".join(f"{count} {state}" for state, count in of_them.items() if count)
    if not rows.registrations:
        return "no registrations"
    noun = "registration" if rows.registrations == 1 else "registrations"
    return f"{rows.registrations} {noun} ({unfinished or 'all finished'})"


async def see_whose(database: Database, url: str, name: str) -> Misnamed | None:
    """What is beside this name's own rows. Raises NameChanged where the file holds those of other names alone."""
    file = file_of(url)
    if file is None:
        return None
    wrong = misnamed(await database.read(lambda connection: kept_if_others(connection, name)), name, file)
    if wrong is not None and wrong.is_refused:
        raise NameChanged(f"{wrong.words}: {wrong.remedy}")
    return wrong


async def see_that_none_is_both(database: Database, old: str, new: str) -> None:
    """Raises StorageError where a call is kept under either name."""
    await database.read(lambda connection: _see_that_none_is_both(connection, old, new))


def out_of_reach(handed: int) -> tuple[str, str]:
    """(words, remedy) where so many were handed over by a node that has no part in the shared database any more."""
    rows = "registration was" if handed == 1 else "registrations were"
    words = (
        f"{handed} {rows} handed over to the nodes' database; storage.shared_url is not set, so nobody here hears more"
    )
    return words, "set it again until itgrix-kommo calls list --only handed shows none"


async def was_called(database: Database, name: str) -> bool:
    """Whether this host had that name, alone or as one of several nodes."""
    part = sa.select(membership.c.node).where(membership.c.node == name)
    return await database.read(
        lambda connection: name in names(connection) or connection.execute(part).first() is not None
    )


async def rename(database: Database, old: str, new: str) -> Kept:
    """Let all that is kept under `old` be under `new`; how it stood. Raises StorageError, and then nothing is changed.

    Done again, it finds nothing left to do.
    """
    return await database.write(lambda connection: _rename(connection, old, new))


def _rename(connection: sa.Connection, old: str, new: str) -> Kept:
    found = _kept_under(connection, old)
    _see_that_none_is_both(connection, old, new)
    for table in (registrations, aliases):
        connection.execute(sa.update(table).where(table.c.node == old).values(node=new))
    _move_one(connection, horizon, old, new, "forgotten_before")
    _move_one(connection, membership, old, new, "tick")
    _move_memory(connection, old, new)
    return found


def _see_that_none_is_both(connection: sa.Connection, old: str, new: str) -> None:
    other = aliases.alias()
    query = (
        sa.select(sa.func.count(), sa.func.min(aliases.c.alias))
        .join(other, other.c.alias == aliases.c.alias)
        .where(aliases.c.node == old, other.c.node == new)
    )
    count, one = connection.execute(query).one()
    if count:
        raise both(old, new, count, one, "storage.url")


def both(old: str, new: str, count: int, one: str, setting: str) -> StorageError:
    """For a call that is kept under either name."""
    more = f" and {count - 1} more" if count > 1 else ""
    return StorageError(
        f"{setting}: {one}{more} is a call of {old} and of {new} alike, so {old} can't become {new}; nothing was "
        f"changed: leave the rows of {old}; with node.name {old} itgrix-kommo registrations list shows them"
    )


def _move_one(connection: sa.Connection, table: sa.Table, old: str, new: str, newest: str) -> None:
    """Of a table with one row a node: of two the one stays whose column `newest` is greater."""
    of_both = sa.select(table).where(table.c.node.in_([old, new])).order_by(table.c[newest].desc())
    row = connection.execute(of_both).mappings().first()
    if row is not None:
        connection.execute(sa.delete(table).where(table.c.node.in_([old, new])))
        connection.execute(sa.insert(table).values({**row, "node": new}))


def _move_memory(connection: sa.Connection, old: str, new: str) -> None:
    """What other nodes remember by the former name must not come back with an older copy of their database."""
    table = remembered
    connection.execute(sa.delete(table).where(table.c.node == new, table.c.version >= GRAVE))
    moving = sa.select(table).where(table.c.node == old, table.c.version < GRAVE)
    rows = [dict(row) for row in connection.execute(moving).mappings()]
    known = set(connection.execute(sa.select(table.c.call_id).where(table.c.node == new)).scalars())
    moved = [{**row, "node": new, "row": {**row["row"], "node": new}} for row in rows if row["call_id"] not in known]
    graves = [{**row, "version": GRAVE, "saved_at": time.time(), "row": _grave(row["row"])} for row in rows]
    connection.execute(sa.delete(table).where(table.c.node == old, table.c.version < GRAVE))
    if rows:
        connection.execute(sa.insert(table), [*moved, *graves])


def _grave(row: dict[str, Any]) -> dict[str, Any]:
    empty = {"client": "", "state": State.SKIPPED.value, "call": {}, "progress": {}, "reason": MOVED}
    return {**row, **empty, "version": GRAVE}
