"""The phonebook's rows: one for each phone, with the clients who have it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from itgrix_kommo.kommo.listings import Listing
from itgrix_kommo.storage.database import Database, phonebook

MOST_AT_ONCE = 500
"""Rows in one statement: databases bound the number of its parameters."""


_LISTING = TypeAdapter(Listing)


class PhonebookRows:
    """A `PhonebookStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, most: int) -> list[tuple[Listing, float]]:
        """The listings used last, the most recent first. All others, and what can't be read any more, are let go."""
        query = sa.select(phonebook).order_by(phonebook.c.used_at.desc(), phonebook.c.phone)
        found: list[tuple[Listing, float]] = []
        let_go: list[str] = []
        for row in await self._database.read(lambda connection: connection.execute(query).mappings().all()):
            listing = listing_of(row) if len(found) < most else None
            if listing is None:
                let_go.append(row["phone"])
            else:
                found.append((listing, row["used_at"]))
        if let_go:
            await self.save([], let_go)
        return found

    async def save(self, listings: Collection[tuple[Listing, float]], gone: Collection[str]) -> None:
        rows = [
            {
                "phone": listing.phone,
                "listing": listing_as_json(listing),
                "used_at": used_at,
            }
            for listing, used_at in listings
        ]
        names = [*gone, *(row["phone"] for row in rows)]

        def write(connection: sa.Connection) -> None:
            for start in range(0, len(names), MOST_AT_ONCE):
                part = names[start : start + MOST_AT_ONCE]
                connection.execute(sa.delete(phonebook).where(phonebook.c.phone.in_(part)))
            if rows:
                connection.execute(sa.insert(phonebook), rows)

        await self._database.write(write)

    async def forget_before(self, at: float) -> int:
        """Let go of who was met last before `at` (Unix s); how many phones there were."""
        old = sa.delete(phonebook).where(phonebook.c.used_at < at)
        return await self._database.write(lambda connection: connection.execute(old).rowcount)


def listing_as_json(listing: Listing) -> Any:
    return _LISTING.dump_python(listing, mode="json")


def listing_of(row: sa.RowMapping) -> Listing | None:
    """None where it can't be read any more."""
    try:
        listing = _LISTING.validate_python(row["listing"])
    except ValidationError:
        return None
    return listing if listing.clients and listing.phone == row["phone"] else None
