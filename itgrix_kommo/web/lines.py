"""How many lines a minute strangers may cause in the log. Time is passed in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

MINUTE: Final = 60.0


class Lines:
    """So many lines a minute in the log, whatever strangers do."""

    def __init__(self, most: int = 60) -> None:
        self._most = most
        self._since = -math.inf
        self._written = 0
        self._left_out = 0

    def warn(self, log: FilteringBoundLogger, event: str, now: float, **facts: object) -> None:
        """Write one more, and how many were left out before it; or leave it out."""
        if self._admits(facts, now):
            log.warning(event, **facts)

    def error(self, log: FilteringBoundLogger, event: str, now: float, **facts: object) -> None:
        """Likewise, for what is our own fault."""
        if self._admits(facts, now):
            log.error(event, **facts)

    def _admits(self, facts: dict[str, Any], now: float) -> bool:
        if now - self._since >= MINUTE:
            self._since, self._written = now, 0
        if self._written >= self._most:
            self._left_out += 1
            return False
        self._written += 1
        if self._left_out:
            facts["left_out_before"] = self._left_out
            self._left_out = 0
        return True
