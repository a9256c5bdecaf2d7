"""CEL and CDR tables as PBXs have them, filled with what the recorded scenes left behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

MOSCOW = ZoneInfo("Europe/Moscow")

MARIADB = (
    """CREATE TABLE cel (id int(11) NOT NULL AUTO_INCREMENT, eventtype varchar(30) NOT NULL,
    eventtime datetime NOT NULL, cid_name varchar(80) NOT NULL, cid_num varchar(80) NOT NULL,
    cid_ani varchar(80) NOT NULL, cid_dnid varchar(80) NOT NULL, exten varchar(80) NOT NULL,
    context varchar(80) NOT NULL, channame varchar(80) NOT NULL, appname varchar(80) NOT NULL,
    appdata varchar(255) NOT NULL,
    uniqueid varchar(32) NOT NULL, linkedid varchar(32) NOT NULL, peer varchar(80) NOT NULL,
    extra varchar(512) NOT NULL, PRIMARY KEY (id), KEY uniqueid_index (uniqueid), KEY linkedid_index (linkedid))""",
    """CREATE TABLE cdr (calldate datetime NOT NULL, src varchar(80) NOT NULL, dst varchar(80) NOT NULL,
    dcontext varchar(80) NOT NULL, channel varchar(80) NOT NULL, dstchannel varchar(80) NOT NULL,
    lastapp varchar(80) NOT NULL, lastdata varchar(80) NOT NULL, duration int(11) NOT NULL, billsec int(11) NOT NULL,
    disposition varchar(45) NOT NULL, uniqueid varchar(32) NOT NULL, did varchar(50) NOT NULL,
    recordingfile varchar(255) NOT NULL, linkedid varchar(32) NOT NULL, sequence int(11) NOT NULL,
    KEY calldate (calldate), KEY uniqueid (uniqueid))""",
)
"""As FreePBX makes them: whole seconds, `extra`, CDR without a number of its own."""

POSTGRESQL = (
    """CREATE TABLE cel (id serial PRIMARY KEY, eventtype varchar(30), eventtime timestamp, cid_name varchar(80),
    cid_num varchar(80), cid_ani varchar(80), cid_dnid varchar(80), exten varchar(80), context varchar(80),
    channame varchar(80), appname varchar(80), appdata text, uniqueid varchar(150), linkedid varchar(150),
    peer varchar(80), eventextra text)""",
    """CREATE TABLE cdr (calldate timestamp, src varchar(80), dst varchar(80), dcontext varchar(80),
    channel varchar(80), dstchannel varchar(80), lastapp varchar(80), lastdata text, duration integer, billsec integer,
    disposition varchar(45), uniqueid varchar(150), did varchar(80), recordingfile varchar(255),
    linkedid varchar(150), sequence integer)""",
)
"""As Asterisk's documentation makes them: microseconds, `eventextra`."""

SQLITE = (
    """CREATE TABLE cel (AcctId INTEGER PRIMARY KEY, eventtype TEXT, eventtime TEXT, cid_name TEXT, cid_num TEXT,
    cid_ani TEXT, cid_dnid TEXT, exten TEXT, context TEXT, channame TEXT, appname TEXT, appdata TEXT, uniqueid TEXT,
    linkedid TEXT, peer TEXT, extra TEXT)""",
    """CREATE TABLE cdr (AcctId INTEGER PRIMARY KEY, calldate TEXT, src TEXT, dst TEXT, dcontext TEXT, channel TEXT,
    dstchannel TEXT, lastapp TEXT, lastdata TEXT, duration TEXT, billsec TEXT, disposition TEXT, uniqueid TEXT,
    did TEXT, recordingfile TEXT, linkedid TEXT, sequence TEXT)""",
)
"""As cel_sqlite3_custom makes them: everything is text."""

CEL = (
    "eventtype", "eventtime", "cid_name", "cid_num", "cid_ani", "cid_dnid", "exten", "context", "channame", "appname",
    "appdata", "uniqueid", "linkedid", "peer", "extra",
)  # fmt: skip
CDR = (
    "calldate", "src", "dst", "dcontext", "channel", "dstchannel", "lastapp", "lastdata", "duration", "billsec",
    "disposition", "uniqueid", "did", "recordingfile", "linkedid",
)  # fmt: skip


def wall(text: str, zone: tzinfo | None) -> datetime:
    """The clock on the wall in `zone` at the moment that the recorded rows tell in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None)


async def run(url: str, *statements: str) -> None:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(sa.text(statement))
    await engine.dispose()


async def fill(
    url: str, cel: Iterable[Mapping[str, str]], cdr: Iterable[Mapping[str, str]] = (), *, zone: tzinfo | None = MOSCOW
) -> None:
    """Write rows as recorded, their times turned into those of `zone`, in the form that the columns take."""
    engine = create_async_engine(url)
    dialect = engine.dialect.name
    columns = [*CEL[:-1], "eventextra" if dialect == "postgresql" else "extra"]

    def time(text: str) -> Any:
        at = wall(text, zone)
        return at.isoformat(sep=" ") if dialect == "sqlite" else at.replace(microsecond=0) if dialect == "mysql" else at

    def values(row: Mapping[str, str], names: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {name: row.get(name, "") for name in names}
        for name in ("eventtime", "calldate"):
            if name in found:
                found[name] = time(found[name])
        for name in ("duration", "billsec"):
            if name in found and dialect != "sqlite":
                found[name] = int(found[name] or 0)
        return found

    def insert(table: str, names: Sequence[str], keys: Sequence[str]) -> sa.TextClause:
        marks = ", ".join(f":{key}" for key in keys)
        return sa.text(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})")  # noqa: S608 (names of this file)

    async with engine.begin() as connection:
        if rows := [values(row, CEL) for row in cel]:
            await connection.execute(insert("cel", columns, CEL), rows)
        if records := [{**values(row, CDR), "sequence": number} for number, row in enumerate(cdr)]:
            await connection.execute(insert("cdr", [*CDR, "sequence"], [*CDR, "sequence"]), records)
    await engine.dispose()
