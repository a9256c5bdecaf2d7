"""A clock for what is tried with a process that stood still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class StoppableClock:
    """The loop's; `passed` are the seconds for which the process stood still."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.passed = 0.0

    def time(self) -> float:
        return self.loop.time() + self.passed

    def call_later(self, delay: float, callback: Callable[[], object], /) -> asyncio.TimerHandle:
        return self.loop.call_later(delay, callback)
