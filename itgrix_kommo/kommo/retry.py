"""When to try a failed request again: strategies as data, decisions without waiting.

Only reads are retried inside the client. A write may have been carried out though its answer was lost; whether to send
it again is for the delivery to decide, which knows how to recognise what was written.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from itgrix_kommo.errors import KommoError, KommoOverloaded, Remedy

Strategy: TypeAlias = Callable[[KommoError, int], float | None]
"""(error, how many attempts have failed so far) → seconds to wait before the next one, or None: give up."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling pauses with jitter. `attempts` None means: as long as it takes.

    `first`, `ceiling` (before jitter) and `patience` are seconds; a wait longer than `patience`, such as Kommo's own
    ``retry_after`` of minutes, is not worth keeping the caller for. `dice` gives numbers from 0 to 1: a pause is spread
    from half of its length to one and a half, lest many that failed together come back together.
    """

    attempts: int | None
    first: float = 0.5
    ceiling: float = 60.0
    patience: float = float("inf")
    dice: Callable[[], float] = random.random

    def __call__(self, error: KommoError, failed: int) -> float | None:
        if error.remedy is not Remedy.RETRY or (self.attempts is not None and failed >= self.attempts):
            return None
        # 2**1023 is the last that a float holds; the ceiling is reached long before.
        pause: float = min(self.first * 2.0 ** min(failed - 1, 1000), self.ceiling) * (0.5 + self.dice())
        if isinstance(error, KommoOverloaded) and error.retry_after is not None:
            pause = max(pause, error.retry_after)
        return pause if pause <= self.patience else None


READS = Backoff(attempts=3, patience=10.0)
"""A read inside the client: a person or a queue waits for it, so it is tried for some seconds only."""
