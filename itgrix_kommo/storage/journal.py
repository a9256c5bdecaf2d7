"""The journal: every frame the tracker was fed, until the call it belongs to is over and its registration is kept.

Frames are gathered and written in groups, off the event loop. A killed process loses at most the last group, and what
it lost is still in Asterisk's channels, which are asked for at the next start.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa
import structlog

from itgrix_kommo.errors import StorageError
from itgrix_kommo.storage.database import Database, aliases, journal, registrations

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from itgrix_kommo.storage.registrations import NewRegistration

GATHER = 0.05
"""Seconds that frames are gathered before they are written together: what a killed process may lose."""


AGAIN = 1.0
"""Seconds before a database that failed is tried again."""

_log = structlog.get_logger(__name__)


class Entry(NamedTuple):
    at: float
    frame: bytes


class Journal:
    def __init__(self, database: Database, node: str) -> None:
        self._database = database
        self._node = node
        self._gathered: list[dict[str, object]] = []
        self._work = asyncio.Event()

    def append(self, at: float, linkedid: str, frame: bytes) -> None:
        self._gathered.append({"node": self._node, "at": at, "linkedid": linkedid, "frame": frame})
        self._work.set()

    async def run(self) -> None:
        """Write what was gathered, for ever."""
        while True:
            await self._work.wait()
            await asyncio.sleep(GATHER)
            self._work.clear()
            try:
                await self.flush()
            except StorageError as error:
                # What was gathered stays gathered: the database may be back in a moment.
                _log.error("journal_not_written", error=str(error), gathered=len(self._gathered))
                await asyncio.sleep(AGAIN)
                self._work.set()

    async def flush(self) -> None:
        async with self._database.writing() as connection:
            await self._write_gathered(connection)

    async def finish(self, ids: frozenset[str], registration: NewRegistration | None) -> int | None:
        """In one transaction: keep the ended call's registration, if it has one, and let its frames go.

        `ids` are all linkedids the call ever had. The registration's number, or None where none was asked for or
        where one of the call's aliases is known already.
        """
        async with self._database.writing() as connection:
            await self._write_gathered(connection)
            kept = await self._keep(connection, registration) if registration is not None else None
            await connection.execute(
                sa.delete(journal).where(journal.c.node == self._node, journal.c.linkedid.in_(ids))
            )
            return kept

    async def forget_before(self, at: float) -> None:
        """Let frames go that belong to no live call: nothing alive began before `at`."""
        async with self._database.writing() as connection:
            await connection.execute(sa.delete(journal).where(journal.c.node == self._node, journal.c.at < at))

    async def read(self) -> list[Entry]:
        """All frames in the order in which they were fed."""
        query = sa.select(journal.c.at, journal.c.frame).where(journal.c.node == self._node).order_by(journal.c.id)
        async with self._database.reading() as connection:
            return [Entry(row.at, row.frame) for row in await connection.execute(query)]

    async def _write_gathered(self, connection: AsyncConnection) -> None:
        gathered, self._gathered = self._gathered, []
        if gathered:
            try:
                await connection.execute(sa.insert(journal), gathered)
            except BaseException:
                self._gathered = gathered + self._gathered
                raise

    async def _keep(self, connection: AsyncConnection, new: NewRegistration) -> int | None:
        known = (
            sa.select(aliases.c.alias).where(aliases.c.node == self._node, aliases.c.alias.in_(new.aliases)).limit(1)
        )
        if (await connection.execute(known)).first() is not None:
            return None
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
        number: int = (await connection.execute(insert)).scalar_one()
        await connection.execute(
            sa.insert(aliases),
            [{"node": self._node, "alias": alias, "registration_id": number} for alias in new.aliases],
        )
        return number
