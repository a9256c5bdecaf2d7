"""The access that a user of the account granted us: a pair of tokens, renewed before it ends, one renewal at a time.

Each renewal gives a new pair. The old refresh token stays good until the new pair is used, so an answer that was lost
costs nothing: the same renewal is asked for again. Therefore a new pair is kept before it is used; if it can't be kept,
it is thrown away unused. Where two processes renew at once, the pair that was kept first is the one both use.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Protocol

import structlog
from pydantic import AfterValidator, BaseModel, Field

from itgrix_kommo.errors import (
    KommoError,
    KommoRejected,
    KommoUnauthorized,
    KommoUnreachable,
    Remedy,
    StorageError,
)
from itgrix_kommo.kommo.limiter import Priority
from itgrix_kommo.kommo.models import read
from itgrix_kommo.kommo.transport import is_token

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from itgrix_kommo.config import Config
    from itgrix_kommo.kommo.transport import Transport

TOKEN_PATH = "/oauth2/access_token"  # noqa: S105 (a path)

RENEW_BEFORE = 600.0
"""Seconds before its end that an access token is renewed; until then it serves if the renewal fails."""

AGAIN_AFTER_FAULT, AGAIN_AFTER_REFUSAL = 2.0, 60.0
"""Seconds after which a renewal that failed is tried again: whoever asks before is told the same."""

REMEDY = "run `itgrix-kommo login`, or open /oauth/kommo/login as administrator"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Integration:
    """As registered in Kommo; `redirect_uri` to the letter."""

    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str


def integration_of(config: Config) -> Integration | None:
    """None where none is configured."""
    given = config.kommo.integration
    if given is None:
        return None
    return Integration(given.client_id, given.client_secret.get_secret_value(), given.redirect_uri)


@dataclass(frozen=True, slots=True)
class Grant:
    """A pair of tokens; `expires_at` (Unix s) is the end of the access token.

    `previous` is the refresh token that the pair came from: good until the pair is used, of no use afterwards.
    """

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: float
    previous: str = field(default="", repr=False)


class GrantStore(Protocol):
    """Where the grant of one integration outlives the process."""

    async def load(self) -> Grant | None: ...

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Within it nobody else renews the grant."""
        ...

    async def save(self, grant: Grant, *, replacing: Grant | None) -> bool:
        """Keep `grant` for good before returning; False, and nothing changed, where another took `replacing`'s place.

        With `replacing` None it takes the place of whatever is there.
        """
        ...

    async def forget(self) -> None:
        """Keep none any more, for good before returning."""
        ...


def _token(text: str) -> str:
    if not is_token(text):
        raise ValueError("no token")
    return text


class _Pair(BaseModel):
    access_token: Annotated[str, AfterValidator(_token)]
    refresh_token: Annotated[str, AfterValidator(_token)]
    expires_in: Annotated[int, Field(gt=0)]


class OAuthTokens:
    """The access token of the moment, for `Transport`; see `TokenSource`.

    `transport` is one without tokens, on the same limiter. Everything here raises KommoError, none of which says that
    the request which needs the token may have happened.
    """

    def __init__(
        self,
        integration: Integration,
        store: GrantStore,
        transport: Transport,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._integration = integration
        self._store = store
        self._transport = transport
        self._now = now
        self._turn = asyncio.Lock()
        self._grant: Grant | None = None
        self._failure: KommoError | None = None
        self._again_at = 0.0
        self._lost = f"nobody has granted us access to Kommo yet: {REMEDY}"

    async def grant_by(self, code: str) -> None:
        """The first grant, by the code that Kommo sent to the redirect address; a code works once, for 20 minutes."""
        async with self._turn:
            begun = self._now()
            pair = await self._ask({"grant_type": "authorization_code", "code": code})
            grant = Grant(pair.access_token, pair.refresh_token, begun + pair.expires_in)
            await self._save(grant, replacing=None)
            self._grant, self._failure = grant, None
            _log.info("kommo_access_granted")

    async def forget(self, why: str) -> None:
        """Our access has ended: `why` is what everybody is told who asks for a token from now on."""
        async with self._turn:
            try:
                await self._store.forget()
            except StorageError as error:
                raise KommoUnreachable(
                    f"our ended access to Kommo can't be taken out of the storage: {error}"
                ) from error
            self._grant, self._failure, self._lost = None, None, why
            _log.warning("kommo_access_forgotten", why=why)

    async def token(self) -> str:
        grant = self._grant
        if grant is not None and self._turn.locked() and self._now() < grant.expires_at:
            return grant.access_token  # somebody sees to the next one, this one still serves
        if grant is None or self._is_ending(grant):
            async with self._turn:
                grant = await self._current()
                if self._is_ending(grant):
                    grant = await self._renewed_or_old(grant)
        return grant.access_token

    async def renew(self, refused: str) -> bool:
        async with self._turn:
            grant = await self._current()
            if grant.access_token != refused:
                return True
            try:
                await self._renew(grant)
            except KommoUnauthorized as error:
                _log.error("kommo_access_lost", error=str(error))
                return False
            return True

    def _is_ending(self, grant: Grant) -> bool:
        return self._now() >= grant.expires_at - RENEW_BEFORE

    async def _current(self) -> Grant:
        """The grant as kept: another process may have renewed it, or a person granted it anew."""
        stored = await self._load()
        if stored is None:
            raise KommoUnauthorized(self._lost, status=401)
        if stored != self._grant:
            self._grant, self._failure = stored, None
        return stored

    async def _renewed_or_old(self, grant: Grant) -> Grant:
        try:
            return await self._renew(grant)
        except KommoError as error:
            if self._now() >= grant.expires_at:
                raise
            _log.warning("kommo_access_not_renewed", error=str(error), good_for_s=round(grant.expires_at - self._now()))
            return grant

    async def _renew(self, grant: Grant) -> Grant:
        """The new pair, kept; raises what the last attempt did where that was a moment ago."""
        if self._failure is not None and self._now() < self._again_at:
            raise self._failure.with_traceback(None)
        try:
            self._grant = await self._exchange_in_turn(grant)
        except KommoError as error:
            self._failure = error
            pause = AGAIN_AFTER_FAULT if error.remedy is Remedy.RETRY else AGAIN_AFTER_REFUSAL
            self._again_at = self._now() + pause
            raise
        self._failure = None
        _log.info("kommo_access_renewed")
        return self._grant

    async def _exchange_in_turn(self, grant: Grant) -> Grant:
        try:
            async with self._store.turn():
                theirs = await self._load()
                return theirs if theirs is not None and theirs != grant else await self._exchange(grant)
        except StorageError as error:
            raise KommoUnreachable(f"our access to Kommo can't be renewed now: {error}") from error

    async def _exchange(self, grant: Grant) -> Grant:
        begun = self._now()
        refusal = ""
        for refresh_token in filter(None, (grant.refresh_token, grant.previous)):
            try:
                pair = await self._ask({"grant_type": "refresh_token", "refresh_token": refresh_token})
            except (KommoUnauthorized, KommoRejected) as error:
                refusal = refusal or str(error)
                continue
            renewed = Grant(pair.access_token, pair.refresh_token, begun + pair.expires_in, refresh_token)
            if await self._save(renewed, replacing=grant):
                return renewed
            return await self._current()  # theirs
        raise KommoUnauthorized(f"Kommo renews our access no more: {refusal}: {REMEDY}", status=401)

    async def _load(self) -> Grant | None:
        try:
            return await self._store.load()
        except StorageError as error:
            raise KommoUnreachable(f"our access to Kommo can't be read: {error}") from error

    async def _save(self, grant: Grant, *, replacing: Grant | None) -> bool:
        try:
            return await self._store.save(grant, replacing=replacing)
        except StorageError as error:
            raise KommoUnreachable(f"our new access to Kommo can't be kept, so it is not used: {error}") from error

    async def _ask(self, given: dict[str, str]) -> _Pair:
        integration = self._integration
        body = {
            "client_id": integration.client_id,
            "client_secret": integration.client_secret,
            "redirect_uri": integration.redirect_uri,
            **given,
        }
        try:
            # Whoever waits for the token may be anyone: nothing goes before it.
            answer = await self._transport.request("POST", TOKEN_PATH, body=body, priority=Priority.LIVE)
            try:
                return read(_Pair, answer.body)
            except ValueError as error:
                raise answer.nonsense(str(error)) from None
        except KommoError as error:
            # The request that needs the token was not sent, whatever became of this one.
            error.may_have_happened = False
            raise
