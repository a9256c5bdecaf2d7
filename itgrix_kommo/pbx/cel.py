"""The PBX's CEL and CDR tables, in MariaDB, PostgreSQL or SQLite: whole calls by their ids or by period.

Rows are read page by page in short queries: a PBX must be able to write its next row at any moment, and a month of
calls does not fit into memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import tzinfo
from typing import Any, NamedTuple

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import make_url
from sqlalchemy.exc import NoSuchTableError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from itgrix_kommo.calls.cel_lines import CdrRow, CelRow
from itgrix_kommo.config.links import PbxDatabase
from itgrix_kommo.errors import StorageError
from itgrix_kommo.pbx.gathering import Gathered, Gathering, other_ids
from itgrix_kommo.pbx.times import EventTimes, TimeValue
from itgrix_kommo.storage.servers import engine_of

PAGE = 500
"""Rows read at once."""

TOGETHER = 100
"""Calls whose records are asked for together."""

SAMPLE = 500
"""Rows at either end of the table that tell how it writes times."""

_CEL = (
    "id", "eventtype", "eventtime", "uniqueid", "linkedid", "channame", "cid_num", "cid_name", "context", "exten",
    "appname", "appdata", "peer", "extra",
)  # fmt: skip
_CEL_NEEDED = frozenset({"eventtype", "eventtime", "uniqueid", "linkedid", "channame"})
_CDR = ("id", "uniqueid", "dstchannel", "lastapp", "lastdata", "did", "recordingfile")
_CDR_NEEDED = frozenset({"uniqueid"})
_CLOCKS = {"mysql": "SELECT UNIX_TIMESTAMP(NOW(6))", "postgresql": "SELECT extract(epoch from clock_timestamp())"}
_OTHER_NAMES = {"id": ("AcctId", "acctid", "sequence"), "extra": ("eventextra",), "peer": ("bridgepeer",)}
"""What tables made by Asterisk's own examples call these columns."""

_log = structlog.get_logger(__name__)


class WholeCall(NamedTuple):
    """All that the PBX keeps of one call. `is_over`: no channel of it was left when it was read."""

    rows: Sequence[CelRow]
    records: Sequence[CdrRow]
    is_over: bool


class Columns(NamedTuple):
    """A table and those of the wanted columns that it has, under the names by which we know them."""

    table: sa.TableClause
    named: Mapping[str, sa.ColumnClause[Any]]

    @property
    def order(self) -> sa.ColumnClause[Any] | None:
        return self.named.get("id")

    def select(self) -> sa.Select[Any]:
        return sa.select(*(column.label(name) for name, column in self.named.items()))


class PbxCalls:
    """Calls as the PBX remembers them. Every method raises StorageError where the database fails."""

    def __init__(self, engine: AsyncEngine, cel: Columns, cdr: Columns | None, times: EventTimes) -> None:
        self._engine = engine
        self._cel = cel
        self._cdr = cdr
        self.times = times

    @classmethod
    async def open(cls, settings: PbxDatabase, zone: tzinfo | None) -> PbxCalls:
        """`zone` is the PBX's, in which its tables are expected to write times. Raises StorageError."""
        url = settings.url.get_secret_value()
        try:
            engine = engine_of(make_url(url), pool_pre_ping=True)
        except (SQLAlchemyError, ImportError) as error:
            raise StorageError(f"database.url: its driver is missing: {error}: install it beside the daemon") from error
        except (TypeError, ValueError) as error:
            raise _not_understood(error) from error
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine.sync_engine, "connect", _only_read)
        try:
            await _see_that_it_is_understood(engine)
            async with _reading(engine) as connection:
                cel = await _columns(connection, settings, "cel", settings.cel_table, _CEL, _CEL_NEEDED)
                cdr = await _records(connection, settings)
                times = EventTimes(await _samples(connection, cel), zone)
        except BaseException:
            await engine.dispose()
            raise
        if "extra" not in cel.named:
            _log.warning(
                "cel_without_extra",
                remedy='calls are answered or missed, no more: name the column in column_name_aliases: "cel_extra"',
            )
        return cls(engine, cel, cdr, times)

    async def close(self) -> None:
        await self._engine.dispose()

    @property
    def lacks(self) -> tuple[str, ...]:
        """What the tables have not, though calls are better known with it: ``extra`` of CEL, ``cdr`` as a whole."""
        return (*(() if "extra" in self._cel.named else ("extra",)), *(() if self._cdr is not None else ("cdr",)))

    async def newest(self) -> float | None:
        """When the newest row was written (Unix s); None for an empty table."""
        order = self._cel.order if self._cel.order is not None else self._cel.named["eventtime"]
        rows = await self._rows(self._cel.select().order_by(order.desc()).limit(1))
        return rows[0][1].at if rows else None

    async def now(self) -> float | None:
        """The server's clock (Unix s); None where there is no server."""
        question = _CLOCKS.get(self._engine.dialect.name)
        if question is None:
            return None
        async with _reading(self._engine) as connection:
            return float((await connection.execute(sa.text(question))).scalar_one())

    async def between(self, since: float, until: float) -> AsyncIterator[WholeCall]:
        """Whole calls with a row in the period (Unix seconds), by the time of their end."""
        gathering = Gathering()
        waiting: list[Gathered] = []
        # Tables of whole seconds round down.
        async for page in self._pages(math.floor(since), math.ceil(until)):
            for row in page:
                waiting += gathering.feed(row)
            while len(waiting) >= TOGETHER:
                for call in await self._completed(waiting[:TOGETHER]):
                    yield call
                del waiting[:TOGETHER]
        waiting += gathering.rest()
        while waiting:
            for call in await self._completed(waiting[:TOGETHER]):
                yield call
            del waiting[:TOGETHER]

    async def with_ids(self, ids: Iterable[str]) -> list[WholeCall]:
        """Whole calls that have one of these linkedids or uniqueids."""
        return await self._whole(set(ids))

    async def _completed(self, gathered: Sequence[Gathered]) -> list[WholeCall]:
        """With their records; those that reach beyond the period are read anew as a whole."""
        calls: list[WholeCall] = []
        whole = [one.in_order() for one in gathered if one.is_over and not one.headless]
        records = await self._records_of({row.uniqueid for rows in whole for row in rows})
        calls += [WholeCall(rows, _of(rows, records), is_over=True) for rows in whole]
        for one in gathered:
            if one.headless or not one.is_over:
                calls += await self._whole(set().union(*(other_ids(row) for _, row in one.rows)))
        return calls

    async def _whole(self, ids: set[str]) -> list[WholeCall]:
        """Read by ids, then by the ids that those rows name, until there is nothing new."""
        known: set[str] = set()
        found: dict[object, CelRow] = {}
        while wanted := ids - known:
            known |= wanted
            columns = self._cel.named
            query = self._cel.select().where(sa.or_(columns["linkedid"].in_(wanted), columns["uniqueid"].in_(wanted)))
            for number, row in await self._rows(query):
                found[number or row] = row
                ids |= other_ids(row)
        gathering = Gathering()
        gathered: list[Gathered] = []
        in_order = sorted(found, key=lambda number: number if isinstance(number, int) else 0)
        rows = [found[number] for number in in_order]
        for row in rows if self._cel.order is not None else sorted(rows, key=lambda row: row.at):
            gathered += gathering.feed(row)
        gathered += gathering.rest()
        records = await self._records_of({row.uniqueid for row in rows})
        return [WholeCall(one.in_order(), _of(one.in_order(), records), is_over=one.is_over) for one in gathered]

    async def _pages(self, since: float, until: float) -> AsyncIterator[list[CelRow]]:
        """The rows of the period in the order of their writing."""
        time, order = self._cel.named["eventtime"], self._cel.order
        begin, end = self.times.in_column(since), self.times.in_column(until)
        if order is None:
            async for page in self._pages_by_time(since, until):
                yield page
            return
        last: int | None = None
        while True:
            query = self._cel.select().where(time >= begin, time <= end).order_by(order).limit(PAGE)
            numbered = await self._rows(query if last is None else query.where(order > last))
            if numbered:
                yield [row for _, row in numbered]
            if len(numbered) < PAGE:
                return
            last = numbered[-1][0]

    async def _pages_by_time(self, since: float, until: float) -> AsyncIterator[list[CelRow]]:
        """Of a table without a number for each row: the rows of one moment stay on one page."""
        time, size = self._cel.named["eventtime"], PAGE
        begin, end = time >= self.times.in_column(since), time <= self.times.in_column(until)
        while True:
            page = [row for _, row in await self._rows(self._cel.select().where(begin, end).order_by(time).limit(size))]
            if len(page) < size:
                yield page
                return
            whole = [row for row in page if row.at < page[-1].at]
            if not whole:
                size *= 2
                continue
            yield whole
            begin, size = time >= self.times.in_column(page[-1].at), PAGE

    async def _rows(self, query: sa.Select[Any]) -> list[tuple[int | None, CelRow]]:
        async with _reading(self._engine) as connection:
            found = (await connection.execute(query)).mappings().all()
        rows = ((row.get("id"), self._row(row)) for row in found)
        return [(number, row) for number, row in rows if row is not None]

    def _row(self, row: Mapping[str, Any]) -> CelRow | None:
        uniqueid = _text(row["uniqueid"])
        try:
            at = self.times.unix(row["eventtime"], uniqueid)
        except (ValueError, TypeError, OverflowError):
            _log.warning("cel_row_without_time", uniqueid=uniqueid, eventtime=str(row["eventtime"])[:40])
            return None
        return CelRow(
            at=at,
            event=_text(row["eventtype"]),
            uniqueid=uniqueid,
            linkedid=_text(row["linkedid"]),
            channel=_text(row["channame"]),
            caller_number=_text(row.get("cid_num")),
            caller_name=_text(row.get("cid_name")),
            context=_text(row.get("context")),
            exten=_text(row.get("exten")),
            application=_text(row.get("appname")),
            app_data=_text(row.get("appdata")),
            peers=tuple(filter(None, _text(row.get("peer")).split(","))),
            extra=_extra(row["extra"]) if "extra" in row else None,
        )

    async def _records_of(self, uniqueids: Collection[str]) -> dict[str, list[CdrRow]]:
        if self._cdr is None or not uniqueids:
            return {}
        query = self._cdr.select().where(self._cdr.named["uniqueid"].in_(uniqueids))
        if self._cdr.order is not None:
            query = query.order_by(self._cdr.order)
        records: dict[str, list[CdrRow]] = {}
        async with _reading(self._engine) as connection:
            for row in (await connection.execute(query)).mappings():
                record = CdrRow(
                    uniqueid=_text(row["uniqueid"]),
                    dest_channel=_text(row.get("dstchannel")),
                    application=_text(row.get("lastapp")),
                    app_data=_text(row.get("lastdata")),
                    did=_text(row.get("did")),
                    recording=_text(row.get("recordingfile")),
                )
                records.setdefault(record.uniqueid, []).append(record)
        return records


def _of(rows: Sequence[CelRow], records: Mapping[str, list[CdrRow]]) -> list[CdrRow]:
    return [record for uniqueid in dict.fromkeys(row.uniqueid for row in rows) for record in records.get(uniqueid, ())]


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _extra(value: object) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    text = _text(value)
    if not text:
        return {}
    try:
        told = json.loads(text)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


async def _columns(
    connection: AsyncConnection,
    settings: PbxDatabase,
    kind: str,
    table: str,
    wanted: Sequence[str],
    needed: Collection[str],
) -> Columns:
    """Raises StorageError, which names the column and how to tell another name of it."""
    schema, _, name = table.rpartition(".")
    try:
        found = await connection.run_sync(
            lambda sync: {str(one["name"]): one["type"] for one in sa.inspect(sync).get_columns(name, schema or None)}
        )
    except NoSuchTableError as error:
        raise StorageError(
            f"database.{kind}_table: there is no table {table}: correct it, and the database's name in database.url"
        ) from error
    there = {column.lower(): column for column in found}
    named: dict[str, sa.ColumnClause[Any]] = {}
    for column in wanted:
        alias = settings.column_name_aliases.get(f"{kind}_{column}", column)
        candidates = (alias, *(other for other in _OTHER_NAMES.get(column, ())))
        real = next((there[one.lower()] for one in candidates if one.lower() in there), None)
        if column == "id" and real is not None and not isinstance(found[real], sa.Integer):
            continue
        if real is not None:
            named[column] = sa.column(real, found[real])
        elif column in needed:
            raise StorageError(
                f"database.{kind}_table: {table} has no column {alias}: name yours in database.column_name_aliases "
                f'as "{kind}_{column}"'
            )
    return Columns(sa.table(name, *named.values(), schema=schema or None), named)


async def _records(connection: AsyncConnection, settings: PbxDatabase) -> Columns | None:
    try:
        return await _columns(connection, settings, "cdr", settings.cdr_table, _CDR, _CDR_NEEDED)
    except (StorageError, SQLAlchemyError) as error:
        _log.warning(
            "cdr_unusable", error=str(error), remedy="calls of the past have no recordings: mend database.cdr_table"
        )
        return None


async def _samples(connection: AsyncConnection, cel: Columns) -> list[tuple[TimeValue, str]]:
    """The times of beginnings of channels, the oldest and the newest of the table."""
    order = cel.order if cel.order is not None else cel.named["eventtime"]
    columns = cel.named
    samples: list[tuple[TimeValue, str]] = []
    for direction in (order.asc(), order.desc()):
        query = (
            sa.select(columns["eventtime"], columns["uniqueid"], columns["eventtype"]).order_by(direction).limit(SAMPLE)
        )
        for time, uniqueid, event in await connection.execute(query):
            if event == "CHAN_START" and time is not None:
                samples.append((time, str(uniqueid)))
    return samples


async def _see_that_it_is_understood(engine: AsyncEngine) -> None:
    """A driver says of a setting that it does not know what Python says of its own call."""
    try:
        async with _reading(engine):
            pass
    except (TypeError, ValueError) as error:
        raise _not_understood(error) from error


def _not_understood(error: Exception) -> StorageError:
    words = f"what stands behind its ? is not understood by its driver: {error}"
    return StorageError(f"database.url: {words}: correct it, or leave it out")


@asynccontextmanager
async def _reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    try:
        async with engine.connect() as connection:
            yield connection
    except (SQLAlchemyError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        raise StorageError(
            f"database.url: the PBX's database failed: {cause}: see that it runs, and that its user may SELECT"
        ) from error


def _only_read(connection: Any, _record: object) -> None:
    """Names of callers are in any encoding, and SQLite keeps what it is given."""
    connection.driver_connection.text_factory = lambda text: text.decode("utf-8", "replace")
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only=ON")
    cursor.close()
