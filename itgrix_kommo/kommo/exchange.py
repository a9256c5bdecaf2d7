"""How the client reads and writes: reads tried again, lists page by page, batches taken apart until all is told."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import structlog
from pydantic import BaseModel

from itgrix_kommo.errors import KommoError, KommoNotFound, KommoRejected, KommoTooHeavy, KommoUnreachable
from itgrix_kommo.kommo.batches import (
    MOST_ITEMS,
    Batch,
    Body,
    IsAwaited,
    Outcome,
    Unanswered,
    gather,
    halves,
    settle,
    settle_failed,
    settle_rejected,
    to_send_again,
)
from itgrix_kommo.kommo.models import read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from itgrix_kommo.kommo.answers import Answer
    from itgrix_kommo.kommo.limiter import Priority
    from itgrix_kommo.kommo.retry import Strategy
    from itgrix_kommo.kommo.transport import Transport

Query: TypeAlias = "Sequence[tuple[str, str]]"

M = TypeVar("M", bound=BaseModel)

_log = structlog.get_logger(__name__)


class _NobodyWaits(Exception):
    """Everybody whose items these are has gone."""


class _Load:
    """What goes out of a batch, in the moment it may: nothing of those who have gone meanwhile."""

    def __init__(self, batch: Batch, is_awaited: Callable[[str], bool]) -> None:
        self.batch = batch
        self._is_awaited = is_awaited

    def __call__(self) -> list[Body]:
        self.batch = self.batch.only([request_id for request_id in self.batch.items if self._is_awaited(request_id)])
        if not self.batch.items:
            raise _NobodyWaits
        return self.batch.body


class Exchange:
    def __init__(self, transport: Transport, *, retry: Strategy, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._transport = transport
        self._retry = retry
        self._sleep = sleep
        self._most: dict[str, int] = {}

    async def read(self, path: str, query: Query, priority: Priority) -> Answer:
        failed = 0
        while True:
            try:
                return await self._transport.request("GET", path, params=query, priority=priority)
            except KommoError as error:
                failed += 1
                pause = self._retry(error, failed)
                if pause is None:
                    raise
                _log.debug("kommo_read_again", path=path, failed=failed, pause_s=pause, error=str(error))
            await self._sleep(pause)

    async def pages(self, path: str, query: Query, priority: Priority, *, most: int) -> AsyncIterator[Answer]:
        """The first `most` pages of a list; a link that leads in a circle ends there."""
        for _ in range(most):
            answer = await self.read(path, query, priority)
            yield answer
            following = answer.next_query()
            if following is None:
                return
            query = following
        _log.warning("kommo_list_cut", path=path, pages=most)

    async def items(
        self, model: type[M], path: str, noun: str, query: Query, priority: Priority, *, most: int
    ) -> list[M]:
        """All items of the first `most` pages."""
        return [
            item async for answer in self.pages(path, query, priority, most=most) for item in many(model, answer, noun)
        ]

    async def send(self, method: str, path: str, body: object, priority: Priority) -> Answer:
        """One request that is no list of items; sent once."""
        return await self._transport.request(method, path, body=body, priority=priority)

    async def write(
        self,
        method: str,
        path: str,
        noun: str,
        bodies: Sequence[Body],
        priority: Priority,
        *,
        is_repeatable: bool = False,
        is_named: bool = True,
        is_awaited: IsAwaited | None = None,
    ) -> list[Outcome]:
        """One outcome per body, in order.

        What nobody waits for any more when its turn comes is not sent, and no request is made where nothing is left.

        A refused batch is taken apart until each culprit is named and all others are written. A batch that was too
        heavy (504) may have been written in part: only what does no harm twice (`is_repeatable`) goes again at once,
        in halves; the rest is told as unanswered. What follows on this path is sent in smaller batches, which grow
        again by one with each that was full and went well.
        """
        request = f"{method} {path}"
        whole = gather(bodies, is_named=is_named)
        waiting = deque(whole.in_parts(self._most.get(path, MOST_ITEMS)))
        known: dict[str, Outcome] = {}
        places = {request_id: place for place, request_id in enumerate(whole.items)}
        while waiting:
            load = _Load(waiting.popleft(), lambda one: is_awaited is None or is_awaited(places[one]))
            again: list[Batch] = []
            try:
                answer = await self._transport.request(method, path, body=load, priority=priority)
            except _NobodyWaits:
                continue
            except (KommoRejected, KommoNotFound) as error:  # concerns this batch alone
                batch = load.batch
                outcomes = settle_rejected(request, noun, batch, error)
                again = to_send_again(batch, outcomes)
            except KommoTooHeavy as error:
                batch = load.batch
                outcomes = settle_failed(batch, error)
                most = self._most[path] = max(1, len(batch.items) // 2)
                waiting = deque(part for one in waiting for part in one.in_parts(most))
                if len(batch.items) > 1 and (is_repeatable or not error.may_have_happened):
                    again = halves(batch)
            except KommoError as error:  # concerns whatever would follow, too
                outcomes = settle_failed(load.batch, error)
                not_sent = KommoUnreachable(f"{request} was not sent: the items before these failed with: {error}")
                for rest in waiting:
                    outcomes += settle_failed(rest, not_sent)
                waiting.clear()
            else:
                batch = load.batch
                outcomes = settle(request, noun, batch, answer.body)
                if len(batch.items) >= self._most.get(path, MOST_ITEMS):
                    self._most[path] = min(MOST_ITEMS, len(batch.items) + 1)
            known.update((outcome.request_id, outcome) for outcome in outcomes)
            waiting.extendleft(reversed(again))
        withdrawn = KommoUnreachable(f"{request} was not sent: nobody waits for it any more")
        return [known.get(request_id, Unanswered(request_id, withdrawn)) for request_id in whole.items]


def one(model: type[M], answer: Answer) -> M:
    try:
        return read(model, answer.body)
    except ValueError as error:
        raise answer.nonsense(str(error)) from None


def many(model: type[M], answer: Answer, noun: str) -> list[M]:
    try:
        return [read(model, item) for item in answer.embedded(noun)]
    except ValueError as error:
        raise answer.nonsense(f"{noun}: {error}") from None
