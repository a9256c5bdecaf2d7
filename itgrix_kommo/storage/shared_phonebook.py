"""The phonebook of several nodes: each has its own, and tells the others what it learns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import sqlalchemy as sa
import structlog

from itgrix_kommo.errors import StorageError
from itgrix_kommo.kommo.listings import Listing
from itgrix_kommo.storage.phonebook import PhonebookRows, listing_as_json, listing_of
from itgrix_kommo.storage.shared import CLOCK, SharedDatabase, insert, shared_phonebook

TOLD_EVERY = 5.0
"""Seconds between looks at what the others have learnt: it spares requests, nothing depends on it."""

OVERLAP = 30.0
"""Seconds that are looked at again: a transaction shows later than the time it bears."""

GONE_KEPT = 3600.0
"""Seconds for which the others may hear that a phone is nobody's any more."""

MOST_AT_ONCE = 500
MOST_UNTOLD = 10_000

TakeIn = Callable[[Collection[tuple[Listing, float]], Collection[str]], None]
"""Told the listings with the time of their use, and the phones that are gone."""

_log = structlog.get_logger(__name__)


class SharedPhonebook:
    """A `PhonebookStore`: this node's own rows, and `run` beside them. Nobody waits for the shared database."""

    def __init__(self, own: PhonebookRows, database: SharedDatabase, node: str) -> None:
        self._own = own
        self._database = database
        self._node = node
        self._untold: dict[str, tuple[Listing, float] | None] = {}
        self._heard_until = 0.0

    async def load(self, most: int) -> list[tuple[Listing, float]]:
        return await self._own.load(most)

    async def save(self, listings: Collection[tuple[Listing, float]], gone: Collection[str]) -> None:
        await self._own.save(listings, gone)
        self._untold |= {listing.phone: (listing, used_at) for listing, used_at in listings}
        self._untold |= dict.fromkeys(gone)
        while len(self._untold) > MOST_UNTOLD:  # the others ask Kommo themselves
            del self._untold[next(iter(self._untold))]

    async def forget_before(self, at: float) -> int:
        return await self._own.forget_before(at)

    async def run(self, take_in: TakeIn) -> None:
        """Tell the others and hear them, for ever."""
        while True:
            await asyncio.sleep(TOLD_EVERY)
            try:
                await self.tell()
                await self.hear(take_in)
            except StorageError as error:
                _log.debug("phonebook_not_shared", error=str(error))

    async def tell(self) -> None:
        while self._untold:
            part = dict(list(self._untold.items())[:MOST_AT_ONCE])
            await self._database.write(lambda connection, part=part: self._put(connection, part))  # type: ignore[misc]
            self._untold = {phone: told for phone, told in self._untold.items() if part.get(phone, ()) is not told}

    async def hear(self, take_in: TakeIn) -> None:
        table = shared_phonebook
        query = (
            sa.select(table)
            .where(table.c.node != self._node, table.c.changed_at > self._heard_until - OVERLAP)
            .order_by(table.c.changed_at)
        )
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        told = [(listing_of(row), row["used_at"]) for row in rows if row["listing"] is not None]
        take_in(
            [(listing, used_at) for listing, used_at in told if listing is not None],
            [row["phone"] for row in rows if row["listing"] is None and row["changed_at"] > self._heard_until],
        )
        self._heard_until = max([self._heard_until, *(row["changed_at"] for row in rows)])

    def _put(self, connection: sa.Connection, told: dict[str, tuple[Listing, float] | None]) -> None:
        now = float(connection.execute(sa.select(CLOCK)).scalar_one())
        rows = [
            {
                "phone": phone,
                "listing": listing_as_json(known[0]) if known else None,
                "used_at": known[1] if known else now,
                "told_at": known[0].told_at if known else now,
                "changed_at": now,
                "node": self._node,
            }
            for phone, known in sorted(told.items())
        ]
        put = insert(shared_phonebook)
        rest = {name: put.excluded[name] for name in ("listing", "used_at", "told_at", "changed_at", "node")}
        # As old as what was told before: the same word of Kommo's, and a lead we made since.
        is_newer = put.excluded.told_at >= shared_phonebook.c.told_at
        connection.execute(put.on_conflict_do_update(index_elements=["phone"], set_=rest, where=is_newer), rows)
        table = shared_phonebook
        connection.execute(sa.delete(table).where(table.c.listing.is_(None), table.c.changed_at < now - GONE_KEPT))
