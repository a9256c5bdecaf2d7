"""The OAuth grant of an account that several nodes share: one of them renews it, and all use it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import sqlalchemy as sa
import structlog

from itgrix_kommo.errors import StorageError
from itgrix_kommo.kommo.oauth import Grant
from itgrix_kommo.storage.shared import SharedDatabase, insert, shared_grants
from itgrix_kommo.storage.tokens import Tokens

_TURN = 0x6772616E
"""Of PostgreSQL's advisory locks: a row's own would keep the new pair out."""

_log = structlog.get_logger(__name__)


class SharedTokens:
    """A `GrantStore`. `own` is this node's copy.

    The copy serves while the shared database is away, until its token ends; nothing is renewed meanwhile. What ends
    later is the newer one: so an older copy of the shared database that was put back gets the newer pair again.
    """

    def __init__(self, database: SharedDatabase, own: Tokens, client_id: str) -> None:
        self._database = database
        self._own = own
        self._client_id = client_id

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        async with self._database.locked(_TURN):
            yield

    async def load(self) -> Grant | None:
        own = await self._own.load()
        try:
            shared = await self._load()
        except StorageError as error:
            if own is None:
                raise
            _log.debug("own_copy_of_access_serves", error=str(error))
            return own
        if own is not None and (shared is None or own.expires_at > shared.expires_at):
            await self._save(own, replacing=shared)
            return own
        if shared is not None and not shared.refresh_token:
            await self._own.forget()
            return None
        if shared is not None and shared != own:
            await self._own.save(shared, replacing=None)
        return shared

    async def save(self, grant: Grant, *, replacing: Grant | None) -> bool:
        is_kept = await self._save(grant, replacing=replacing)
        if is_kept:
            await self._own.save(grant, replacing=None)
        return is_kept

    async def forget(self) -> None:
        """The row stays, empty: else another node's copy would pass for the newer one."""
        empty = sa.update(shared_grants).where(shared_grants.c.client_id == self._client_id)
        empty = empty.values(access_token="", refresh_token="", previous="")
        await self._database.write(lambda connection: connection.execute(empty))
        await self._own.forget()

    async def _load(self) -> Grant | None:
        query = sa.select(shared_grants).where(shared_grants.c.client_id == self._client_id)
        row = await self._database.read(lambda connection: connection.execute(query).mappings().first())
        if row is None:
            return None
        return Grant(row["access_token"], row["refresh_token"], row["expires_at"], row["previous"])

    async def _save(self, grant: Grant, *, replacing: Grant | None) -> bool:
        values = {
            "client_id": self._client_id,
            "access_token": grant.access_token,
            "refresh_token": grant.refresh_token,
            "expires_at": grant.expires_at,
            "previous": grant.previous,
        }
        put = insert(shared_grants).values(values)
        if replacing is None:
            put = put.on_conflict_do_update(index_elements=["client_id"], set_=values)
        else:
            is_there = shared_grants.c.refresh_token == replacing.refresh_token
            put = put.on_conflict_do_update(index_elements=["client_id"], set_=values, where=is_there)
        return await self._database.write(lambda connection: connection.execute(put).rowcount == 1)
