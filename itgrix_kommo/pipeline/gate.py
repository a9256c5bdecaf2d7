"""The gate before Kommo: open while the account is as it must be; where not, it says what a person must do.

Calls are captured whether it is open or not; they wait as rows until it opens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from itgrix_kommo.errors import ItgrixError
from itgrix_kommo.kommo.checks import Problem, Report, Wanted, examine
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.pipeline.rules import Rules

EXAMINE_OPEN = 3600.0
"""Seconds between looks at an account that was in order: users and fields change rarely, refusals tell at once."""

EXAMINE_SHUT = (2.0, 5.0, 15.0, 30.0)
"""Seconds between looks at an account that was not in order; the last one goes on for ever."""

_log = structlog.get_logger(__name__)


class Gate:
    def __init__(
        self,
        client: KommoClient,
        wanted: Wanted,
        rules_of: Callable[[Report], Rules],
        *,
        shut_pauses: tuple[float, ...] = EXAMINE_SHUT,
    ) -> None:
        self._client = client
        self._wanted = wanted
        self._rules_of = rules_of
        self._shut_pauses = shut_pauses
        self._open = asyncio.Event()
        self._look = asyncio.Event()
        self.rules: Rules | None = None
        self.problems: tuple[Problem, ...] = (
            Problem("account", "not examined yet", "wait some seconds", stops=True, passes=True),
        )

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    def stops(self) -> list[str]:
        """What stops the registering, one line each, with the remedy; empty while the gate is open."""
        return [f"{one.what}: {one.words}: {one.remedy}" for one in self.problems if one.stops]

    async def opened(self) -> Rules:
        """Wait until calls may be registered; by which rules."""
        while True:
            await self._open.wait()
            if self.rules is not None:
                return self.rules

    def shut(self, error: ItgrixError) -> None:
        """A request failed in a way that only a person can mend: nothing goes out until the account was examined."""
        self.problems = (Problem("Kommo", str(error), "registering goes on when this is mended", stops=True),)
        self._open.clear()
        self._look.set()
        _log.warning("registering_stopped", error=str(error))

    def look_again(self) -> None:
        """Something has changed: the account is examined in a moment, not only when its time has come."""
        self._look.set()

    def renew(self, wanted: Wanted) -> None:
        """The configuration has changed: the account is examined for it in a moment, and gives the rules anew."""
        self._wanted = wanted
        self.look_again()

    async def run(self) -> None:
        """Examine the account again and again, for ever."""
        failed = 0
        while True:
            self._look.clear()
            report = await examine(self._client, self._wanted)
            if self._look.is_set():
                continue
            self._tell(report.problems)
            if report.can_register:
                failed = 0
                self.rules = self._rules_of(report)
                self._open.set()
                pause = EXAMINE_OPEN
            else:
                self._open.clear()
                pause = self._shut_pauses[min(failed, len(self._shut_pauses) - 1)]
                failed += 1
            try:
                async with asyncio.timeout(pause):
                    await self._look.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(self._shut_pauses[0])

    def _tell(self, problems: tuple[Problem, ...]) -> None:
        """What is new is a warning; what was said already is not said again."""
        said = {problem.words for problem in self.problems}
        self.problems = problems
        for problem in problems:
            log = _log.debug if problem.words in said else _log.warning
            log("account_problem", what=problem.what, words=problem.words, remedy=problem.remedy, stops=problem.stops)
        if not problems and said:
            _log.info("account_in_order")
