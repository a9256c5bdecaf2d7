"""`GET /status`: how the daemon and all that it depends on are; the vendor's keys first, ours beside them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

LOOK_EVERY: Final = 1.0
"""Seconds between looks for errors, so that one is remembered that nobody asked for while it lasted."""


class Grade(StrEnum):
    OK = "Ok"
    WARNING = "Warning"
    ERROR = "Error"


@dataclass(frozen=True, slots=True)
class Part:
    """One outside thing as it is now. `error` is why it is not as it should be, empty if it is.

    `stops`: nothing is registered until a person has acted. `passes`: it is so by itself for a moment after the start,
    and nothing to remember.
    """

    error: str = ""
    grade: Grade = Grade.OK
    stops: bool = False
    passes: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _LastError:
    words: str
    at: float


class StatusBoard:
    """`parts` tell of one outside thing each, `customizer` of the hooks, `facts` of all else that is shown."""

    def __init__(
        self,
        parts: Mapping[str, Callable[[], Part]],
        *,
        customizer: Callable[[], Mapping[str, Any]],
        facts: Callable[[], Awaitable[Mapping[str, Any]]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._parts = parts
        self._customizer = customizer
        self._facts = facts
        self._now = now
        self._last: dict[str, _LastError] = {}

    async def run(self) -> None:
        """Keep watch, for ever."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY)

    def look(self) -> dict[str, Part]:
        """All outside things, now."""
        found = {name: part() for name, part in self._parts.items()}
        for name, part in found.items():
            if part.error and not part.passes:
                self._last[name] = _LastError(part.error, self._now())
        return found

    async def body(self) -> dict[str, Any]:
        parts = self.look()
        grades = {part.grade for part in parts.values()}
        worst = next((grade for grade in (Grade.ERROR, Grade.WARNING) if grade in grades), Grade.OK)
        customizer = self._customizer()
        if worst is Grade.OK and customizer.get("problems"):
            worst = Grade.WARNING
        return {
            "app_state": "stopped" if any(part.stops for part in parts.values()) else "",
            "app_status": worst.value,
            "customizer": customizer,
            "outside": {name: self._shown(name, part) for name, part in parts.items()},
            **await self._facts(),
        }

    def _shown(self, name: str, part: Part) -> dict[str, Any]:
        last = self._last.get(name)
        return {
            "status": part.grade.value,
            "error": part.error or None,
            "last_error": last.words if last else None,
            "last_error_at": round(last.at, 3) if last else None,
            **part.facts,
        }
