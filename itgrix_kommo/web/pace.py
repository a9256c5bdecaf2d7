"""How many in a minute: calls for each by himself and for all together, lines in the log. No IO; time is passed in."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final

from itgrix_kommo.web.problems import Refused

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

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


class Lines:
    """So many lines a minute in the log, whatever strangers do."""

    def __init__(self, most: int = 60) -> None:
        self._most = most
        self._since = -math.inf
        self._written = 0
        self._left_out = 0

    def warn(self, log: FilteringBoundLogger, event: str, now: float, **facts: object) -> None:
        """Write one more, and how many were left out before it; or leave it out."""
        if now - self._since >= MINUTE:
            self._since, self._written = now, 0
        if self._written >= self._most:
            self._left_out += 1
            return
        self._written += 1
        if self._left_out:
            facts["left_out_before"] = self._left_out
            self._left_out = 0
        log.warning(event, **facts)
