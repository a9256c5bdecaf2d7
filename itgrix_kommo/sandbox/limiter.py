"""Seven requests per sliding second, 429 beyond, and a block for those who won't listen."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .clock import Clock
    from .switches import Switches


class Verdict(Enum):
    PASS = "pass"  # noqa: S105  a verdict, no password
    TOO_MANY = "too many"
    BLOCKED = "blocked"


class Limiter:
    """One window for the whole account: whether Kommo counts by address or by integration is open, this is strictest.

    Refused requests count as well, so a client that hammers stays out until it has been silent for a second.
    """

    def __init__(self, clock: Clock, switches: Switches) -> None:
        self._clock = clock
        self._switches = switches
        self._arrivals: deque[float] = deque()
        self._violations = 0  # since the last request that passed
        self._closed_until = 0.0
        self.blocked = False

    def admit(self) -> Verdict:
        now = self._clock.now()
        while self._arrivals and now - self._arrivals[0] >= 1.0:
            self._arrivals.popleft()
        self._arrivals.append(now)
        if self.blocked:
            return Verdict.BLOCKED
        if len(self._arrivals) <= self._switches.requests_per_second and now >= self._closed_until:
            self._violations = 0
            return Verdict.PASS
        self._violations += 1
        if self._switches.retry_after_enforced:
            self._closed_until = max(self._closed_until, now + self._switches.retry_after_s)
        if self._violations >= self._switches.block_after:
            self.blocked = True
            return Verdict.BLOCKED
        return Verdict.TOO_MANY

    @property
    def in_this_second(self) -> int:
        return len(self._arrivals)

    def reset(self) -> None:
        """What only Kommo's support can do: lift the block and forget."""
        self._arrivals.clear()
        self._violations = 0
        self._closed_until = 0.0
        self.blocked = False
