"""Pop-ups: who is calling, on the screens of the users whose phones ring. At once or not at all.

They travel together and take half of the account's limit at most, so that lookups and registrations go on while many
phones ring. One that has waited for three seconds is not shown: by then the phone was picked up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from itgrix_kommo.errors import KommoError, KommoRejected
from itgrix_kommo.kommo.batches import MOST_ITEMS
from itgrix_kommo.kommo.limiter import Priority

if TYPE_CHECKING:
    from collections.abc import Collection

    from itgrix_kommo.kommo.transport import Transport

PATH = "/api/v2/events/"

LIFE = 3.0
"""Seconds that a pop-up may wait, and that its request may take."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Popup:
    """`is_suspect`: it was in a list that Kommo refused, so it travels alone now."""

    phone: str
    users: tuple[int, ...]
    dies_at: float
    call_id: str = ""
    is_suspect: bool = False


class _NothingLeft(Exception):
    """Everything that waited has died before it was our turn."""


class Popups:
    """`show` never waits; `run` sends, for ever. Nothing is sent twice, what fails is lost."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        # At half of an odd number the smaller half, and of one request a second every other one.
        self._pause = 1 / (transport.limiter.per_second // 2 or 0.5)
        self._waiting: deque[_Popup] = deque()
        self._under_way: list[_Popup] = []
        self._news = asyncio.Event()
        self._next_at = 0.0
        self.shown = 0
        self.lost = 0

    def show(self, phone: str, users: Collection[int], *, call_id: str = "") -> None:
        """Show `phone` to these users; Kommo finds out by itself whose it is. The log tells it by `call_id`.

        Raises ValueError without users, which to Kommo would mean everybody, and without a phone.
        """
        if not users or not phone.strip():
            message = "a pop-up needs a phone and the ids of the users who shall see it"
            raise ValueError(message)
        dies_at = asyncio.get_running_loop().time() + LIFE
        self._waiting.append(_Popup(phone, tuple(sorted(set(users))), dies_at, call_id))
        self._news.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._news.wait()
            await asyncio.sleep(max(0.0, self._next_at - loop.time()))
            self._under_way = []
            self._bury()
            if self._waiting:
                await self._send()
            if not self._waiting:
                self._news.clear()

    async def _send(self) -> None:
        try:
            async with asyncio.timeout(LIFE):
                await self._transport.request("POST", PATH, body=self._body, priority=Priority.LIVE)
        except _NothingLeft:
            return
        except TimeoutError:
            self._lose(self._under_way, "no answer in time")
        except KommoRejected as error:
            if len(self._under_way) > 1:
                self._waiting.extendleft(replace(one, is_suspect=True) for one in reversed(self._under_way))
            else:
                self._lose(self._under_way, str(error))
        except KommoError as error:
            if error.status is not None and error.status < 300:  # done, whatever the answer's body is
                self._have_shown()
                return
            if self._under_way:
                self._lose(self._under_way, str(error))
            else:  # there is no way to Kommo, for none of them
                self._lose(self._waiting, str(error))
                self._waiting.clear()
        else:
            self._have_shown()

    def _have_shown(self) -> None:
        self.shown += len(self._under_way)
        for one in self._under_way:
            if one.call_id:
                _log.debug("popup_shown", call_id=one.call_id, users=one.users)

    def _body(self) -> object:
        """What goes out, in the moment it may."""
        self._next_at = asyncio.get_running_loop().time() + self._pause
        self._waiting.extendleft(reversed(self._under_way))  # a renewed token lets the same list go again
        self._bury()
        if not self._waiting:
            raise _NothingLeft
        most = 1 if self._waiting[0].is_suspect else MOST_ITEMS
        self._under_way = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        events = [
            {"type": "phone_call", "phone_number": one.phone, "users": list(one.users)} for one in self._under_way
        ]
        return {"add": events}

    def _bury(self) -> None:
        now = asyncio.get_running_loop().time()
        alive = [one for one in self._waiting if one.dies_at > now]
        self._lose([one for one in self._waiting if one.dies_at <= now], "it was not their turn in time")
        self._waiting = deque(alive)

    def _lose(self, popups: Collection[_Popup], why: str) -> None:
        if popups:
            self.lost += len(popups)
            _log.warning("popups_lost", popups=len(popups), error=why)
            for one in popups:
                if one.call_id:
                    _log.debug("popup_not_shown", call_id=one.call_id, users=one.users, reason=why)
