"""Delivers webhooks as Kommo does: form-encoded, two seconds to answer, four more tries, off when it is hopeless."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from itgrix_kommo.kommo import brackets

if TYPE_CHECKING:
    from .account import Account
    from .records import Change, Webhook

_NO_ANSWER = 0
_SOON = (5 * 60, 15 * 60)  # pauses before the second and third try, for whatever went wrong
_LATER = (15 * 60, 60 * 60)  # before the fourth and fifth, for the receiver's own failures
_MOST_BAD, _BAD_WINDOW = 100, 2 * 60 * 60  # answers, seconds


@dataclass(frozen=True, slots=True)
class Delivery:
    """One try. `status` is 0 where no answer came in time."""

    destination: str
    code: str
    attempt: int
    at: float
    status: int

    @property
    def is_good(self) -> bool:
        return 100 <= self.status <= 299


class Deliveries:
    """Listens to the account and keeps a log of every try; needs `start` and `stop` around it."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._session: aiohttp.ClientSession | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._bad: dict[int, deque[float]] = defaultdict(deque)
        self.log: deque[Delivery] = deque(maxlen=1000)

    async def start(self) -> None:
        self._session = aiohttp.ClientSession()
        self._account.listeners.append(self._told)

    async def stop(self) -> None:
        self._account.listeners.remove(self._told)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _told(self, change: Change) -> None:
        for hook in self._account.webhooks.values():
            if change.code in hook.settings and not hook.disabled:
                task = asyncio.create_task(self._deliver(hook.id, change))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _deliver(self, hook_id: int, change: Change) -> None:
        form = brackets.flatten(
            {
                change.top: {change.action: [change.item]},
                "account": {
                    "subdomain": self._account.subdomain,
                    "id": self._account.id,
                    "_links": {"self": f"https://{self._account.subdomain}.kommo.com"},
                },
            }
        )
        attempt = 0
        while (hook := self._account.webhooks.get(hook_id)) is not None and not hook.disabled:
            attempt += 1
            status = await self._post(hook, form)
            delivery = Delivery(hook.destination, change.code, attempt, self._account.clock.now(), status)
            self.log.append(delivery)
            self._account.revision += 1
            self._judge(hook, delivery)
            pause = pause_before_next(delivery)
            if pause is None:
                return
            await self._account.clock.sleep_until(self._account.clock.now() + pause)

    async def _post(self, hook: Webhook, form: list[tuple[str, str]]) -> int:
        if self._session is None:
            return _NO_ANSWER
        timeout = aiohttp.ClientTimeout(total=self._account.switches.webhook_timeout_s)
        try:
            async with self._session.post(
                hook.destination, data=aiohttp.FormData(form), timeout=timeout, allow_redirects=False
            ) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError, ValueError):  # ValueError: an address that aiohttp can't read
            return _NO_ANSWER

    def _judge(self, hook: Webhook, delivery: Delivery) -> None:
        """More than a hundred bad answers in two hours, the last one bad: disabled until someone saves it again."""
        if delivery.is_good:
            return
        bad = self._bad[hook.id]
        bad.append(delivery.at)
        while bad[0] <= delivery.at - _BAD_WINDOW:
            bad.popleft()
        current = self._account.webhooks.get(hook.id)
        if len(bad) > _MOST_BAD and current is not None:
            self._account.change_webhook(current, disabled=True)
            bad.clear()


def pause_before_next(delivery: Delivery) -> float | None:
    """Seconds until the next try, None where there is none: the receiver has it, or Kommo gives up."""
    if delivery.is_good:
        return None
    if delivery.attempt <= len(_SOON):
        return float(_SOON[delivery.attempt - 1])
    late = delivery.attempt - len(_SOON) - 1
    if late < len(_LATER) and 499 <= delivery.status <= 599:
        return float(_LATER[late])
    return None
