"""The sandbox's time: the machine's own, or one that a test moves by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Unix seconds; never goes back."""

    async def sleep_until(self, moment: float) -> None:
        """Returns once `now()` has reached `moment` (unix seconds)."""


class SystemClock:
    """The wall clock read once, carried on by the monotonic one: a clock set back can't confuse the limiter."""

    def __init__(self) -> None:
        self._origin = time.time() - time.monotonic()

    def now(self) -> float:
        return self._origin + time.monotonic()

    async def sleep_until(self, moment: float) -> None:
        await asyncio.sleep(max(0.0, moment - self.now()))


class ManualClock:
    """Stands still until `advance`; whoever sleeps past the new time wakes up."""

    def __init__(self, start: float = 1_760_000_000.0) -> None:
        self._now = start
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError(f"a clock does not go back: {seconds} s")
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            heapq.heappop(self._sleepers)[2].set()

    @property
    def sleepers(self) -> int:
        """How many wait for a later moment: a test advances only once those it means have lain down."""
        return len(self._sleepers)

    async def sleep_until(self, moment: float) -> None:
        if moment <= self._now:
            return
        entry = (moment, next(self._order), asyncio.Event())
        heapq.heappush(self._sleepers, entry)
        try:
            await entry[2].wait()
        finally:
            if entry in self._sleepers:
                self._sleepers.remove(entry)
                heapq.heapify(self._sleepers)
