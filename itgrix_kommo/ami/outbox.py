"""What was received and not yet taken: one ordered queue of batches, bounded by asking the sender to wait."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from itgrix_kommo.calls.events import Event


class Received(NamedTuple):
    """One message as it came, for journals and traces, and what it means."""

    frame: bytes
    event: Event


class Outbox:
    """Batches of one network chunk each, in the order of their arrival.

    At `high_water` events `pause` is called, at a quarter of it `resume`; nothing is ever dropped.
    """

    def __init__(self, high_water: int, *, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self.waiting = 0
        self.full = False
        self._high_water = high_water
        self._low_water = high_water // 4
        self._pause = pause
        self._resume = resume
        self._batches: deque[list[Received]] = deque()
        self._closed = False
        self._wake = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    def put(self, batch: list[Received]) -> None:
        """Never blocks; an empty batch is nothing."""
        if not batch:
            return
        self._batches.append(batch)
        self.waiting += len(batch)
        self._wake.set()
        if self.waiting >= self._high_water and not self.full:
            self.full = True
            self._drained.clear()
            self._pause()

    async def get(self) -> list[Received] | None:
        """The next batch; None when closed and empty."""
        while not self._batches:
            if self._closed:
                return None
            self._wake.clear()
            await self._wake.wait()
        batch = self._batches.popleft()
        self.waiting -= len(batch)
        if self.full and self.waiting <= self._low_water:
            self.full = False
            self._drained.set()
            self._resume()
        return batch

    async def drained(self) -> None:
        """Until there is room."""
        await self._drained.wait()

    def close(self) -> None:
        """Nothing more will come; what waits may still be taken."""
        self._closed = True
        self._wake.set()
