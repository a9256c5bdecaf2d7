"""A login at Asterisk of the doctor's own, that its checks share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from itgrix_kommo.ami.link import AmiLink
from itgrix_kommo.ami.settings import AmiSettings, Pace
from itgrix_kommo.calls import events as ev
from itgrix_kommo.config import Ami
from itgrix_kommo.doctor.examination import Shared
from itgrix_kommo.errors import AmiLoginRefused, AmiUnavailable

CONNECT_WITHIN: Final = 6.0
HEAR_WITHIN: Final = 3.0
"""Seconds for an event that was provoked; a busy PBX takes moments."""

WRITE_RIGHTS: Final = "system,call,originate,reporting"
RELOAD: Final = "asterisk -rx 'manager reload'"

_PATIENT: Final = 86_400.0
_BOOTS_WITHIN: Final = 1.5


class Line:
    """The link, and what came over it."""

    def __init__(self, link: AmiLink) -> None:
        self.link = link
        self.events: list[ev.Event] = []
        self._news = asyncio.Event()

    async def listen(self) -> None:
        async for batch in self.link.batches():
            self.events += [received.event for received in batch]
            self._news.set()

    async def hears(self, wanted: Callable[[ev.Event], bool]) -> bool:
        """Whether such an event has come, or comes within HEAR_WITHIN."""
        try:
            async with asyncio.timeout(HEAR_WITHIN):
                while not any(map(wanted, self.events)):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def has_booted(self) -> bool:
        """Whether Asterisk said FullyBooted, or says it now: a login is answered a moment before."""
        deadline = time.monotonic() + _BOOTS_WITHIN
        status = self.link.status
        while not status.booted and time.monotonic() < deadline:
            await asyncio.sleep(0.05)  # the link tells nobody when its status changes
            status = self.link.status
        return status.booted


@asynccontextmanager
async def logged_in(ami: Ami) -> AsyncIterator[Line]:
    """Raises AmiLoginRefused, AmiUnavailable."""
    settings = AmiSettings(ami.host, ami.port, ami.username, ami.secret.get_secret_value(), tls=ami.tls)
    # It connects once: whoever examines wants to hear of the first failure.
    pace = Pace(
        connect_within=CONNECT_WITHIN, answer_within=CONNECT_WITHIN, retry_first=_PATIENT, refused_first=_PATIENT
    )
    line = Line(AmiLink(settings, pace=pace))
    work = [asyncio.create_task(line.link.run()), asyncio.create_task(line.listen())]
    try:
        status = line.link.status
        while not (status.connected and (status.filtered or status.limits)):
            if status.error:
                raise (AmiLoginRefused if status.login_refused else AmiUnavailable)(status.error)
            await asyncio.sleep(0.02)  # the link tells nobody when its status changes
            status = line.link.status
        yield line
    finally:
        for task in work:
            task.cancel()
        await asyncio.wait(work)


async def linked(line: Shared[Line]) -> AmiLink:
    return (await line.needed("there is no login at Asterisk")).link
