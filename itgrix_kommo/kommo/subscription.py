"""Our one webhook in the account: there, complete and enabled once the daemon has begun, and none of former secrets."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from itgrix_kommo.errors import KommoError, Remedy
from itgrix_kommo.kommo.webhooks import EVENTS
from itgrix_kommo.log import masked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from itgrix_kommo.kommo.client import KommoClient

PATH = "/webhooks/kommo/"
"""Below the daemon's public address; what stands there is ours."""

AGAIN_AFTER = (30.0, 120.0, 600.0, 3600.0)
"""Seconds until it is tried again where Kommo could not be asked; the last one goes on for ever."""

AGAIN_AFTER_REFUSAL = 86_400.0
"""Seconds, where Kommo does not let us: plans and rights change rarely."""

_REMEDY = (
    "nothing stops: clients are looked up as they call. Webhooks need an administrator's token and a plan that has "
    "them; without, take kommo.webhook_secret out"
)

_log = structlog.get_logger(__name__)


class Subscription:
    """`public_url` is the daemon's address as Kommo sees it. `error` is why there is no subscription, or empty."""

    def __init__(self, client: KommoClient, public_url: str, secret: str) -> None:
        self._client = client
        self._ours = public_url.rstrip("/") + PATH
        self._destination = self._ours + secret
        self._again = asyncio.Event()
        self.is_there = False
        self.error = ""

    def look_again(self) -> None:
        """Our access was granted anew: what was subscribed may be gone with the former one."""
        self._again.set()

    async def run(self, ready: Callable[[], Awaitable[object]]) -> None:
        """Subscribe at the beginning, and whenever it is said again; `ready` waits until Kommo may be asked."""
        failed = 0
        while True:
            await ready()
            self._again.clear()
            pause: float | None = None
            try:
                await self.settle()
                failed = 0
            except KommoError as error:
                self._tell(error)
                passes = error.remedy is Remedy.RETRY
                pause = AGAIN_AFTER[min(failed, len(AGAIN_AFTER) - 1)] if passes else AGAIN_AFTER_REFUSAL
                failed += passes
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._again.wait()

    async def settle(self) -> None:
        """Make it so, by as few requests as it takes. Raises KommoError."""
        is_there = False
        for webhook in await self._client.webhooks():
            if webhook.destination == self._destination:
                is_there = not webhook.disabled and set(EVENTS) <= set(webhook.settings)
            elif webhook.destination.startswith(self._ours):
                await self._client.unsubscribe(webhook.destination)
                _log.info("webhook_of_former_secret_removed")
        if not is_there:
            await self._client.subscribe(self._destination, EVENTS)
            _log.info("webhook_subscribed", events=len(EVENTS))
        self.is_there, self.error = True, ""

    def _tell(self, error: KommoError) -> None:
        """Once: what is said already is not said again."""
        words = masked(str(error))
        log = _log.debug if words == self.error else _log.warning
        self.is_there, self.error = False, words
        log("webhook_not_subscribed", error=words, remedy=_REMEDY)
