"""The OAuth grant: the one row whose loss needs a person to mend.

The SQLite file is its owner's alone (0600). In a shared database the grant is as safe as that database's accounts.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractAsyncContextManager

import sqlalchemy as sa

from itgrix_kommo.kommo.oauth import Grant
from itgrix_kommo.storage.database import Database, grants


class Tokens:
    """A `GrantStore`: the grant of one integration, by its `client_id`."""

    def __init__(self, database: Database, client_id: str) -> None:
        self._database = database
        self._client_id = client_id

    def turn(self) -> AbstractAsyncContextManager[None]:
        """The daemon's alone: a command that grants anew wins in any case."""
        return contextlib.nullcontext()

    async def load(self) -> Grant | None:
        query = sa.select(grants).where(grants.c.client_id == self._client_id)
        row = await self._database.read(lambda connection: connection.execute(query).mappings().first())
        if row is None:
            return None
        return Grant(row["access_token"], row["refresh_token"], row["expires_at"], row["previous"])

    async def save(self, grant: Grant, *, replacing: Grant | None) -> bool:
        values = {
            "access_token": grant.access_token,
            "refresh_token": grant.refresh_token,
            "expires_at": grant.expires_at,
            "previous": grant.previous,
        }
        update = sa.update(grants).where(grants.c.client_id == self._client_id).values(**values)
        if replacing is not None:
            update = update.where(grants.c.refresh_token == replacing.refresh_token)

        def write(connection: sa.Connection) -> bool:
            is_kept = connection.execute(update).rowcount == 1
            if not is_kept and replacing is None:
                connection.execute(sa.insert(grants).values(client_id=self._client_id, **values))
                is_kept = True
            return is_kept

        is_kept = await self._database.write(write)
        await self._database.make_durable()
        return is_kept

    async def forget(self) -> None:
        delete = sa.delete(grants).where(grants.c.client_id == self._client_id)
        await self._database.write(lambda connection: connection.execute(delete))
        await self._database.make_durable()
