"""The PBX's own database, from which calls of the past are read: its tables, their columns, whether they grow."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import tzinfo
from functools import partial
from typing import Final

from itgrix_kommo.config import PbxDatabase
from itgrix_kommo.doctor.clock import judge_clock
from itgrix_kommo.doctor.examination import Check, Patient, Shared
from itgrix_kommo.doctor.findings import Finding, age, fault, ok, skipped, warning
from itgrix_kommo.errors import StorageError
from itgrix_kommo.pbx.cel import PbxCalls

GROUP: Final = "PBX database"

QUIET: Final = 3 * 86_400.0
"""Seconds without a call that a weekend explains."""

AHEAD: Final = 300.0
"""Seconds that the newest row may lie in the future: clocks differ, and one row is told to the second only."""

_CEL = (
    "see enable=yes, apps=all and events=ALL in /etc/asterisk/cel.conf, and that its back end (cel_odbc.conf) is loaded"
)
_TYPE = "type asterisk -rx 'cel show status'"


def checks(patient: Patient) -> list[Check]:
    settings = patient.config.database
    if settings is None:
        return [Check(GROUP, "CEL", _not_wanted)]
    zone = patient.config.node.timezone
    opened = patient.share(lambda: patient.stack.enter_async_context(_opened(settings, zone)))
    return [
        Check(GROUP, "CEL", partial(tables, settings, opened)),
        Check(GROUP, "rows", partial(rows, opened)),
        Check(GROUP, "clock", partial(clock, opened)),
    ]


async def _not_wanted() -> Finding:
    return skipped("`database` is not configured, so calls of the daemon's downtimes are not read back")


@asynccontextmanager
async def _opened(settings: PbxDatabase, zone: tzinfo | None) -> AsyncIterator[PbxCalls]:
    """Raises StorageError."""
    calls = await PbxCalls.open(settings, zone)
    try:
        yield calls
    finally:
        await calls.close()


async def tables(settings: PbxDatabase, opened: Shared[PbxCalls]) -> list[Finding]:
    try:
        calls = await opened.get()
    except StorageError as error:
        return [refused(settings, str(error))]
    found = []
    if "extra" in calls.lacks:
        found.append(
            warning(
                f"{settings.cel_table} has no column extra: calls of the past are answered or missed, no more",
                'name the column in database.column_name_aliases: "cel_extra"; without one, add it (cel_odbc fills it)',
            )
        )
    if "cdr" in calls.lacks:
        found.append(
            warning(
                f"{settings.cdr_table} can't be used: calls of the past have no recordings",
                "correct database.cdr_table, and GRANT SELECT on it to the user of database.url",
            )
        )
    return found or [ok(f"{settings.cel_table} and {settings.cdr_table} have what is needed")]


def refused(settings: PbxDatabase, words: str) -> Finding:
    """What a database says, told as what to do."""
    low = words.lower()
    what, _, remedy = words.rpartition(": ")
    if "denied" in low or "password authentication" in low:
        remedy = (
            f"GRANT SELECT ON {settings.cel_table} and {settings.cdr_table} to the user of database.url, and compare "
            "its password"
        )
    elif "unknown database" in low or "does not exist" in low:
        remedy = "correct the database's name in database.url"
    elif "connect" in low or "refused" in low:
        remedy = "see that the database runs (systemctl status mariadb) and listens where database.url says"
    return fault(what or words, remedy)


async def rows(opened: Shared[PbxCalls]) -> Finding:
    calls = await opened.needed("the database can't be read")
    try:
        newest = await calls.newest()
    except StorageError as error:
        return fault(str(error), "see that the user of database.url may SELECT from the table")
    return judge_newest(newest, time.time())


def judge_newest(newest: float | None, now: float) -> Finding:
    if newest is None:
        return warning("the CEL table is empty: Asterisk writes nothing into it", f"{_CEL}; {_TYPE}")
    if newest - now > AHEAD:
        return fault(
            f"the newest row is {age(newest - now)} in the future: the table's time zone is not that of node.timezone",
            "set node.timezone to the zone in which the PBX writes its times, such as Europe/Madrid",
        )
    if now - newest > QUIET:
        return warning(f"the newest row is {age(now - newest)} old", f"if there were calls since: {_CEL}; {_TYPE}")
    return ok(f"the newest row is {age(now - newest)} old")


async def clock(opened: Shared[PbxCalls]) -> Finding:
    calls = await opened.needed("the database can't be read")
    try:
        theirs = await calls.now()
    except StorageError as error:
        return skipped(str(error))
    return skipped("a file has no clock") if theirs is None else judge_clock("the database's", theirs, time.time())
