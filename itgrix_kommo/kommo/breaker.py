"""Tells a block from a missing right, and stops knocking while we are blocked.

Who breaks Kommo's limit repeatedly gets 403 to *every* request until support lifts it; each further request makes it
worse. The same status also means that a right is missing for one method. So a 403 is taken for a block when it is no
JSON (the web server's own page), when 429s went before it, or when the same method worked before. The last is a guess
(a right may depend on the entity, or be withdrawn) and mends itself: once a probe is answered, a 403 of that method is
not taken for a block on such evidence again.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from itgrix_kommo.errors import KommoBlocked

if TYPE_CHECKING:
    from collections.abc import Callable

PROBE_EVERY = 60.0
PROBE_AT_LEAST_EVERY = 900.0
"""Seconds between probes: doubled from the first to the second by each probe that is blocked too."""

BLOCK_FOLLOWS = 600.0
"""A 403 so many seconds after a 429 is its consequence."""


class Breaker:
    """Open while the account or address is blocked. Its clock counts seconds, from wherever."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._worked: set[str] = set()
        self._rights: set[str] = set()
        self._suspect: str | None = None
        self._overloaded_at: float | None = None
        self._reason: str | None = None
        self._probe_every = PROBE_EVERY
        self._probe_at = 0.0
        self._probing = False

    @property
    def reason(self) -> str | None:
        """Why nothing goes out; None while the breaker is closed."""
        return self._reason

    def check(self) -> None:
        """Fail fast while it is open and no probe is due, so that nobody stands in the queue in vain.

        Raises KommoBlocked.
        """
        if self._reason is not None and self._clock() < self._probe_at:
            raise self._blocked()

    def enter(self) -> None:
        """To be called when a request is about to be sent: lets one probe through per interval, whatever becomes of it.

        Raises KommoBlocked.
        """
        self.check()
        if self._reason is not None:
            self._probing = True
            self._probe_at = self._clock() + self._probe_every

    def answered(self, method: str, path: str, status: int) -> None:
        """An answer other than 403 arrived."""
        if status == 429:
            self._overloaded_at = self._clock()
        elif status < 500:  # a gateway's failure shows nothing of whether Kommo deals with us
            if self._reason is not None:
                self._close()
            if status < 300:
                self._worked.add(_route(method, path))

    def refused(self, method: str, path: str, *, is_json: bool, words: str) -> KommoBlocked | None:
        """A 403 arrived: the error if it means a block (the breaker is open now), None if a right is missing."""
        if self._reason is None:
            if not self._means_block(_route(method, path), is_json=is_json):
                return None
            self._reason = words
            self._probe_at = self._clock() + self._probe_every
        elif self._probing:  # else it is a straggler, sent before the breaker opened
            self._probing = False
            self._probe_every = min(2 * self._probe_every, PROBE_AT_LEAST_EVERY)
            self._probe_at = self._clock() + self._probe_every
        return self._blocked(status=403)

    def _means_block(self, route: str, *, is_json: bool) -> bool:
        if not is_json:
            return True
        if self._overloaded_at is not None and self._clock() < self._overloaded_at + BLOCK_FOLLOWS:
            return True
        if route in self._worked and route not in self._rights:
            self._suspect = route
            return True
        return False

    def _close(self) -> None:
        if self._suspect is not None:
            self._rights.add(self._suspect)
        self._suspect = self._overloaded_at = self._reason = None
        self._probing = False
        self._probe_every = PROBE_EVERY

    def _blocked(self, *, status: int | None = None) -> KommoBlocked:
        seconds = max(0.0, self._probe_at - self._clock())
        return KommoBlocked(
            f"Kommo blocks this account or address ({self._reason}): only Kommo's support lifts a block; "
            f"nothing is sent before the next probe in {seconds:.0f} s",
            status=status,
        )


def _route(method: str, path: str) -> str:
    return f"{method} {re.sub(r'/[0-9]+(?=/|$)', '/{id}', path)}"
