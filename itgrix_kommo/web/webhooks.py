"""`POST /webhooks/kommo/{secret}`: Kommo tells what changed. Answered at once; nothing of it is trusted.

Kommo disables a webhook whose answers are late or no 2xx, so whatever comes to the right address is answered with 200,
and read afterwards. What is lost here is only a phonebook that is refreshed later.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import parse_qsl

import structlog
from aiohttp import web

from itgrix_kommo.kommo.webhooks import MOST_PAIRS, Change, changes_of
from itgrix_kommo.web.bodies import read_bytes
from itgrix_kommo.web.problems import Refused
from itgrix_kommo.web.visitors import is_same

PATH: Final = "/webhooks/kommo/{secret}"
LARGEST_BODY: Final = 2 * 1024 * 1024
"""Bytes: some hundred cards with all their fields."""

MOST_WAITING: Final = 500
"""Webhooks that wait to be read; beyond that the oldest is lost."""

_log = structlog.get_logger(__name__)


class WebhookInbox:
    """`account_id` is None while it is not known: then nothing is believed. `apply` takes the changes of one webhook.

    `results` counts what became of them, for the metrics.
    """

    def __init__(
        self,
        secret: str | None,
        account_id: Callable[[], int | None],
        apply: Callable[[Iterable[Change]], object],
    ) -> None:
        self._secret = secret
        self._account_id = account_id
        self._apply = apply
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self.results: Counter[str] = Counter()

    def routes(self) -> list[web.RouteDef]:
        return [web.post(PATH, self._take)]

    async def run(self) -> None:
        """Read what has come, for ever."""
        while True:
            body = await self._waiting.get()
            changes = await self._read(body)
            self.results["read" if changes else "ignored"] += 1
            if changes:
                _log.debug("webhook", changes=len(changes))
                self._apply(changes)

    async def _take(self, request: web.Request) -> web.Response:
        given = request.match_info["secret"]
        if not is_same(given, self._secret or "") or self._secret is None:
            raise Refused(404, "there is nothing here")
        body = await read_bytes(request, LARGEST_BODY)
        if self._waiting.qsize() >= MOST_WAITING:
            self._waiting.get_nowait()
            self.results["lost"] += 1
        self._waiting.put_nowait(body)
        return web.Response()

    async def _read(self, body: bytes) -> list[Change]:
        account_id = self._account_id()
        if account_id is None:
            return []
        # A large form takes a while; callers who wait for an answer must not.
        return await asyncio.to_thread(_changes, body, account_id)


def _changes(body: bytes, account_id: int) -> list[Change]:
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MOST_PAIRS)
    except ValueError:
        return []
    return changes_of(pairs, account_id)
