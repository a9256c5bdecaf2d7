"""How many calls in a minute: for each by himself, and for all together. No IO; time is passed in."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from itgrix_kommo.web.problems import Refused

MINUTE: Final = 60.0


class Pace:
    def __init__(self, *, each: int, together: int) -> None:
        self.use(each=each, together=together)
        self._all: deque[float] = deque()
        self._of: dict[str, deque[float]] = {}

    def use(self, *, each: int, together: int) -> None:
        """Allow so many from now on; who has called in this minute already is counted."""
        self._each = each
        self._together = together

    def take(self, who: str, now: float) -> None:
        """Count one more. Raises Refused (429) where it is too many; that one is not counted."""
        self._forget(now)
        own = self._of.get(who, deque())
        for times, most, words in (
            (own, self._each, f"more than {self._each} calls in a minute by one user"),
            (self._all, self._together, f"more than {self._together} calls in a minute by all users"),
        ):
            if len(times) >= most:
                wait = max(1, math.ceil(times[0] + MINUTE - now))
                raise Refused(429, words, headers={"Retry-After": str(wait)})
        own.append(now)
        self._all.append(now)
        self._of[who] = own

    def _forget(self, now: float) -> None:
        while self._all and now - self._all[0] >= MINUTE:
            self._all.popleft()
        for who, times in list(self._of.items()):
            while times and now - times[0] >= MINUTE:
                times.popleft()
            if not times:
                del self._of[who]
