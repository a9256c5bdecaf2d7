"""The PostgreSQL that several nodes of one account share: its tables, and opening it.

Times in it are Unix seconds by its own clock, but for `due_at` and `created_at`, which are the nodes' own.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from itgrix_kommo.errors import StorageError, StorageRefused
from itgrix_kommo.storage.engines import Work
from itgrix_kommo.storage.schema import History, bring_up_to_date, is_up_to_date
from itgrix_kommo.storage.servers import REMEDIES, cause_of, engine_of, remedy_of

if TYPE_CHECKING:
    from sqlalchemy.dialects.postgresql import Insert

A = TypeVar("A")
Q = TypeVar("Q")
T = TypeVar("T")

SETTING = "storage.shared_url"

ANSWERS_WITHIN = 5.0
"""Seconds for a connection or a statement; a server that hangs counts as away."""

CONNECTIONS = 4

TURN_OF_A_GRANT = 120.0
"""Seconds for which a node may hold an advisory lock and say nothing: it talks with Kommo meanwhile."""

_GIVES_UP = {
    "idle_in_transaction_session_timeout": str(round(ANSWERS_WITHIN * 1000)),
    "tcp_user_timeout": str(round(ANSWERS_WITHIN * 1000)),
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "2",
}
"""When PostgreSQL ends a transaction of a node that was cut off, or stands still. All others may wait for what it has
locked, and by itself PostgreSQL would have them wait for hours.
"""

_REFUSALS = ("22", "54")
"""Classes of PostgreSQL's errors that blame what it was given: no valid data, too much of something."""

_UNHOLDABLE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
"""Where JSON may name what no text of PostgreSQL's holds: the character zero, and halves of characters."""

_NO_TEXT = re.compile("[\0\ud800-\udfff]")

metadata = sa.MetaData()

account = sa.Table(
    "account",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    # Changes when an older copy of this database was put back: what nodes remember is then newer than it.
    sa.Column("epoch", sa.String(36), nullable=False),
    sa.Column("epoch_at", sa.Double, nullable=False),
    sa.Column("tick", sa.BigInteger, nullable=False),
    sa.Column("paused_until", sa.Double, nullable=False),
    sa.Column("paused_by", sa.String(64), nullable=False),
)

nodes = sa.Table(
    "nodes",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("until", sa.Double, nullable=False),
    sa.Column("acked", sa.Double, nullable=False),
    sa.Column("wants", sa.Integer, nullable=False),
    sa.Column("waiting", sa.Integer, nullable=False),
    sa.Column("epoch", sa.String(36), nullable=False),
    sa.Column("version", sa.String(32), nullable=False),
    # What it is configured with; an older program does not tell.
    sa.Column("per_second", sa.Integer),
    # Kommo's id of it, once the node has heard that.
    sa.Column("account", sa.BigInteger),
)

slots = sa.Table(
    "slots",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("home", sa.String(64)),
    sa.Column("holder", sa.String(64)),
    sa.Column("until", sa.Double, nullable=False),
)

shared_grants = sa.Table(
    "shared_grants",
    metadata,
    sa.Column("client_id", sa.String(64), primary_key=True),
    sa.Column("access_token", sa.Text, nullable=False),
    sa.Column("refresh_token", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Column("previous", sa.Text, nullable=False),
)

handed = sa.Table(
    "handed",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("node", sa.String(64), nullable=False),
    sa.Column("call_id", sa.String(150), nullable=False),
    sa.Column("client", sa.String(220), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("due_at", sa.Double, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("call", sa.JSON, nullable=False),
    sa.Column("progress", sa.JSON, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    # Counts the changes: of two that tell of the same registration the higher one is later.
    sa.Column("version", sa.Integer, nullable=False),
    # Who changed it last.
    sa.Column("worker", sa.String(64), nullable=False),
    sa.Column("epoch", sa.String(36), nullable=False),
    # Whether its node has heard how it ended.
    sa.Column("is_told", sa.Boolean, nullable=False),
    # None while it is not over.
    sa.Column("ended_at", sa.Double, index=True),
    sa.UniqueConstraint("node", "call_id"),
    sa.Index("handed_in_line", "state", "number"),
    sa.Index("handed_of_client", "client", "number"),
    # Alone it says who is first in a client's line: without it, and before PostgreSQL has counted what a long outage
    # left, the look for what is due takes longer than anybody waits.
    sa.Index("handed_line_of_client", "client", "number", postgresql_where=sa.text("state = 'waiting'")),
    sa.Index("handed_to_tell", "node", "is_told", "state"),
)

shared_phonebook = sa.Table(
    "shared_phonebook",
    metadata,
    sa.Column("phone", sa.String(32), primary_key=True),
    # None: a node has heard that it is nobody's any more, or not his.
    sa.Column("listing", sa.JSON(none_as_null=True)),
    sa.Column("used_at", sa.Double, nullable=False),
    sa.Column("told_at", sa.Double, nullable=False),
    sa.Column("changed_at", sa.Double, nullable=False, index=True),
    sa.Column("node", sa.String(64), nullable=False),
)

claims = sa.Table(
    "claims",
    metadata,
    # Good for as long as its node's `until` has not passed.
    sa.Column("client", sa.String(220), primary_key=True),
    sa.Column("node", sa.String(64), nullable=False, index=True),
)

SHARED = History("shared", "shared_version", metadata)

_RIGHTS = sa.text(
    """
    SELECT current_setting('transaction_read_only') = 'on' AS is_read_only,
        NOT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AND count(there) = 0 AS may_make_none,
        array_agg(name ORDER BY name) FILTER (WHERE there IS NOT NULL AND NOT (
            has_table_privilege(there, 'SELECT') AND has_table_privilege(there, 'INSERT')
            AND has_table_privilege(there, 'UPDATE') AND has_table_privilege(there, 'DELETE')
        )) AS tables
    FROM unnest(:tables) AS name, LATERAL (SELECT to_regclass(name) AS there) AS one
    """
).bindparams(sa.bindparam("tables", type_=sa.ARRAY(sa.Text)))

CLOCK = sa.func.extract("epoch", sa.func.clock_timestamp())
"""The server's time, in Unix seconds."""


def insert(table: sa.Table) -> Insert:
    """One that may go over what is there; PostgreSQL's dialect is not loaded where nothing is shared."""
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 (a twentieth of a second, and two MiB)

    return postgresql.insert(table)


class SharedDatabase:
    """Opened without being asked anything: it may be away. `prepare` has to succeed before it is used."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        try:
            self._engine = engine_of(
                self._url,
                pool_size=CONNECTIONS,
                pool_timeout=ANSWERS_WITHIN,
                connect_args={
                    "timeout": ANSWERS_WITHIN,
                    "command_timeout": ANSWERS_WITHIN,
                    "server_settings": {**_GIVES_UP, "jit": "off"},  # to compile a look takes longer than the look
                },
            )
        except ModuleNotFoundError as error:
            raise StorageError(f"{SETTING}: the driver {error.name} is not installed: install it") from error

    async def prepare(self) -> None:
        """See to it that the tables are as this program knows them. Raises StorageError."""
        await self._see_that_it_holds_all_letters()
        if not await self.read(lambda connection: is_up_to_date(connection, SHARED, SETTING)):
            await self.write(lambda connection: bring_up_to_date(connection, SHARED, SETTING))

    async def see_that_it_can_be_written(self) -> None:
        """Without writing. Raises StorageError."""
        await self._see_that_it_holds_all_letters()
        lacks = await self.read(lambda connection: connection.execute(_RIGHTS, {"tables": list(metadata.tables)}).one())
        user = self._url.username
        if lacks.is_read_only:
            raise StorageError(f"{SETTING}: the shared database can only be read: {REMEDIES['25006']}")
        if lacks.may_make_none:
            raise StorageError(f"{SETTING}: {user} may make no tables in the shared database: {REMEDIES['42501']}")
        if lacks.tables:
            tables = ", ".join(lacks.tables)
            raise StorageError(f"{SETTING}: {user} may not write the shared database's {tables}: {REMEDIES['42501']}")

    async def _see_that_it_holds_all_letters(self) -> None:
        """Else calls fail one by one, as soon as a name is not in that alphabet."""
        encoding = await self.read(lambda connection: connection.execute(sa.text("SHOW server_encoding")).scalar_one())
        if encoding != "UTF8":
            raise StorageError(
                f"{SETTING}: the encoding of the shared database is {encoding}, which can't hold every name: "
                "make another one (createdb --encoding=UTF8 --template=template0), and give its address"
            )

    async def close(self) -> None:
        await self._engine.dispose()

    async def write(self, work: Work[T], *, before_commit: Callable[[], Awaitable[None]] | None = None) -> T:
        """Do `work` in one transaction; it is committed when this returns. Raises StorageError.

        It may be committed, too, where this raises once `before_commit` is done.
        """
        try:
            async with self._engine.begin() as connection:
                done = await connection.run_sync(work)
                if before_commit is not None:
                    await before_commit()
                return done
        except (SQLAlchemyError, OSError) as error:
            raise self._away(error) from error

    async def write_each(
        self,
        work: Callable[[sa.Connection, Sequence[Q]], Sequence[A]],
        given: Sequence[Q],
        *,
        before_commit: Callable[[Sequence[Q]], Awaitable[None]] | None = None,
    ) -> list[A | StorageRefused]:
        """Do `work` with all that is given, as one; where that is refused with each half, until the culprit is named.

        What becomes of each, in order. Raises StorageError: the first ones may be committed all the same then.
        """
        before = None if before_commit is None else functools.partial(before_commit, given)
        try:
            return list(await self.write(lambda connection: work(connection, given), before_commit=before))
        except StorageRefused as refused:
            if len(given) == 1:
                return [refused]
        half = len(given) // 2
        return [
            *await self.write_each(work, given[:half], before_commit=before_commit),
            *await self.write_each(work, given[half:], before_commit=before_commit),
        ]

    @contextlib.asynccontextmanager
    async def locked(self, lock: int) -> AsyncIterator[None]:
        """Hold this advisory lock, which ends with its connection at the latest. Raises StorageError."""
        connection = self._engine.connect()
        try:
            await connection.start()
            at_most = f"SET LOCAL idle_in_transaction_session_timeout = '{TURN_OF_A_GRANT:.0f}s'"
            await connection.execute(sa.text(at_most))
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
        except (SQLAlchemyError, OSError) as error:
            with contextlib.suppress(SQLAlchemyError, OSError):
                await connection.close()
            raise self._away(error) from error
        try:
            yield
        finally:
            with contextlib.suppress(SQLAlchemyError, OSError):
                await connection.close()

    async def read(self, work: Work[T]) -> T:
        """What `work` finds. Raises StorageError."""
        try:
            async with self._engine.connect() as connection:
                return await connection.run_sync(work)
        except (SQLAlchemyError, OSError) as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> StorageError:
        origin = getattr(error, "orig", None)
        if str(getattr(origin, "sqlstate", None) or "")[:2] in _REFUSALS:
            return StorageRefused(f"{SETTING}: the shared database can't hold it: {origin}: report this with the log")
        cause = cause_of(error, self._url) or f"no answer within {ANSWERS_WITHIN:g} s"
        return StorageError(f"{SETTING}: the shared database failed: {cause}: {remedy_of(error)}")


def as_json(value: Any) -> str:
    """JSON that PostgreSQL can hold: what its texts can't is in it as U+FFFD."""
    text = json.dumps(value)
    return json.dumps(_holdable(value)) if _UNHOLDABLE.search(text) else text


def _holdable(value: Any) -> Any:
    match value:
        case str():
            return _NO_TEXT.sub("\ufffd", value)
        case dict():
            return {_holdable(key): _holdable(one) for key, one in value.items()}
        case list() | tuple():
            return [_holdable(one) for one in value]
        case _:
            return value
