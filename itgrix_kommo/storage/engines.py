"""The two ways to a database: a SQLite file by a thread of its own, a server by its asynchronous driver.

Either way the work is a plain function of an SQLAlchemy connection, done in one transaction.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from itgrix_kommo.kommo.gathering import Gathering
from itgrix_kommo.storage.servers import engine_of

T = TypeVar("T")

Work: TypeAlias = Callable[[sa.Connection], T]
"""What is done in one transaction. It may be done again where the transaction failed, so it changes nothing else."""

MOST_TOGETHER = 500
"""Works in one transaction: a commit costs more than the changes in it."""


class Engine(Protocol):
    async def write(self, work: Work[T]) -> T:
        """Do it in a transaction: committed at the end, rolled back on any error. Writers take turns."""
        ...

    async def read(self, work: Work[T]) -> T: ...

    async def close(self) -> None: ...


class _Failed(NamedTuple):
    error: Exception


class FileEngine:
    """One connection in one thread, a hop there and back for all that waits together.

    Works that wait together are one transaction, in their order; where one of them fails, each gets its own.
    """

    def __init__(self, url: sa.URL) -> None:
        self._engine = sa.create_engine(url.set(drivername="sqlite"), poolclass=sa.NullPool, hide_parameters=True)
        sa.event.listen(self._engine, "connect", _prepare)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="storage")
        self._connection: sa.Connection | None = None
        self._waiting: Gathering[Work[Any], Any] = Gathering(self._go, most=MOST_TOGETHER)

    async def write(self, work: Work[T]) -> T:
        done: T | _Failed = await self._waiting.ask(work)
        if isinstance(done, _Failed):
            raise done.error
        return done

    read = write

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    async def _go(self, works: list[Work[Any]]) -> list[Any]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, works)

    def _do(self, works: Sequence[Work[Any]]) -> list[Any]:
        try:
            return self._together(works)
        except Exception as error:  # noqa: BLE001 (it is theirs who asked)
            self._disconnect()
            if len(works) == 1 or _was_busy(error):  # who waited for somebody's lock in vain needn't wait again
                return [_Failed(error)] * len(works)
            return [done for work in works for done in self._do([work])]

    def _together(self, works: Sequence[Work[Any]]) -> list[Any]:
        if self._connection is None:
            self._connection = self._engine.connect()
        with self._connection.begin():
            return [work(self._connection) for work in works]

    def _disconnect(self) -> None:
        """What failed may have broken the connection, too: the next transaction makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class ServerEngine:
    def __init__(self, url: sa.URL) -> None:
        self._engine = engine_of(url)
        self._turn = asyncio.Lock()

    async def write(self, work: Work[T]) -> T:
        async with self._turn, self._engine.begin() as connection:
            return await connection.run_sync(work)

    async def read(self, work: Work[T]) -> T:
        async with self._engine.connect() as connection:
            return await connection.run_sync(work)

    async def close(self) -> None:
        await self._engine.dispose()


def _was_busy(error: Exception) -> bool:
    code = getattr(error.orig, "sqlite_errorcode", 0) if isinstance(error, DBAPIError) else 0
    return code & 0xFF == sqlite3.SQLITE_BUSY


def _prepare(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # With WAL a commit survives a killed process at once; a power cut may cost the last moments, never consistency.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
