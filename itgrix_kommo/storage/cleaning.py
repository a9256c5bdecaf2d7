"""The cleaning: what `storage.retention_days` has passed over goes, and what is kept of past days takes little room.

What still waits or has failed stays, however old: it is somebody's to see to. Rows go in small portions, between which
the daemon's own work has its turn; files are seen to in a thread that yields to everybody else.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import structlog

from itgrix_kommo.errors import StorageError
from itgrix_kommo.storage.chronicle import DAY, LATE, days_of
from itgrix_kommo.storage.files import CHRONICLE, JOURNAL
from itgrix_kommo.storage.journal import ENDED, segments_of
from itgrix_kommo.storage.memory import KEPT_FOR

FIRST_AFTER = 60.0
"""Seconds after the start: then there is more urgent work."""

EVERY = 6 * 3600.0

PORTION, PAUSE = 200, 0.05
"""Rows removed in one transaction, and seconds between two."""

SPARE = 500_000_000
"""Bytes that are left free on the disk: below that the journals of ended calls go, the oldest first."""

NICE = 10

_log = structlog.get_logger(__name__)


class Forgotten(NamedTuple):
    """How many of each were removed."""

    registrations: int = 0
    shared_registrations: int = 0
    remembered: int = 0
    phones: int = 0
    recordings: int = 0
    journals: int = 0
    chronicles: int = 0


@dataclass(frozen=True, slots=True)
class Rows:
    """How each table lets go of what is older than a moment (Unix s); each gives the number of rows that went.

    `registrations`, and of several nodes `shared` and `memory`, remove at most as many as they are told, and are asked
    again until it is fewer.
    """

    registrations: Callable[[float, int], Awaitable[int]]
    phones: Callable[[float], Awaitable[int]]
    recordings: Callable[[float], Awaitable[int]]
    shared: Callable[[float, int], Awaitable[int]] | None = None
    memory: Callable[[float, int], Awaitable[int]] | None = None


class Cleaning:
    """`files` is the daemon's directory; `days` is for how long things are kept, `link_days` how long links work."""

    def __init__(
        self,
        rows: Rows,
        files: Path,
        *,
        days: Callable[[], float],
        link_days: float | None,
        now: Callable[[], float] = time.time,
        spare: int = SPARE,
    ) -> None:
        self._rows = rows
        self._files = files
        self._days = days
        self._link_days = link_days
        self._now = now
        self._spare = spare

    async def run(self) -> None:
        """Clean some time after the start, and then again and again, for ever."""
        await asyncio.sleep(FIRST_AFTER)
        while True:
            await self.clean()
            await asyncio.sleep(EVERY)

    async def clean(self) -> Forgotten:
        """Once. What fails is told in the log, and tried at the next time."""
        before = self._now() - self._days() * DAY
        registrations = await self._in_portions(self._rows.registrations, before)
        shared = await self._in_portions(self._rows.shared, before) if self._rows.shared else 0
        memory = await self._in_portions(self._rows.memory, self._now() - KEPT_FOR) if self._rows.memory else 0
        phones = await self._some(self._rows.phones, before)
        links = None if self._link_days is None else self._now() - self._link_days * DAY
        recordings = 0 if links is None else await self._some(self._rows.recordings, links)
        journals, chronicles = await self._in_thread(lambda: (self._journals(before), self._chronicles(before)))
        forgotten = Forgotten(registrations, shared, memory, phones, recordings, journals, chronicles)
        if any(forgotten):
            removed = {name: count for name, count in forgotten._asdict().items() if count}
            _log.info("cleaned", older_than_days=self._days(), **removed)
        return forgotten

    async def _in_portions(self, remove: Callable[[float, int], Awaitable[int]], before: float) -> int:
        removed = 0
        while (portion := await self._some(lambda at: remove(at, PORTION), before)) == PORTION:
            removed += portion
            await asyncio.sleep(PAUSE)
        return removed + portion

    @staticmethod
    async def _some(remove: Callable[[float], Awaitable[int]], before: float) -> int:
        try:
            return await remove(before)
        except StorageError as error:
            _log.error("cleaning_failed", error=str(error), remedy="it is tried again later")
            return 0

    @staticmethod
    async def _in_thread(work: Callable[[], tuple[int, int]]) -> tuple[int, int]:
        with ThreadPoolExecutor(1, "cleaning", initializer=_yield_to_others) as thread:
            return await asyncio.get_running_loop().run_in_executor(thread, work)

    def _journals(self, before: float) -> int:
        directory = self._files / JOURNAL / ENDED
        removed = _remove(path for path in segments_of(directory) if _changed_at(path) < before)
        for path in segments_of(directory):
            if path.suffix != ".gz":
                _compress(path)
        for path in segments_of(directory):
            if shutil.disk_usage(directory).free >= self._spare:
                break
            _log.warning("journal_removed_early", path=str(path), remedy="free disk space")
            removed += _remove([path])
        return removed

    def _chronicles(self, before: float) -> int:
        days = days_of(self._files / CHRONICLE)
        removed = _remove(path for begins, path in days if begins + DAY < before)
        for begins, path in days:
            if before <= begins + DAY < self._now() - 2 * LATE and path.suffix != ".gz":
                _compress(path)
        return removed


def _yield_to_others() -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)  # Linux's threads have their own


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return float("inf")


def _remove(paths: Iterable[Path]) -> int:
    removed = 0
    for path in list(paths):
        try:
            path.unlink()
        except OSError as error:
            _log.error("cleaning_failed", error=f"{path}: {error.strerror}", remedy="let the daemon's user own it")
        else:
            removed += 1
    return removed


def _compress(path: Path) -> None:
    """Put a compressed file of the same time in its place; a reader finds one of them at any moment."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        status = path.stat()
        with path.open("rb") as plain, os.fdopen(_made(aside), "wb") as file, gzip.open(file, "wb") as packed:
            shutil.copyfileobj(plain, packed, 1 << 16)
        os.utime(aside, ns=(status.st_atime_ns, status.st_mtime_ns))
        aside.rename(path.with_name(f"{path.name}.gz"))
        path.unlink()
    except OSError as error:
        aside.unlink(missing_ok=True)
        _log.error("cleaning_failed", error=f"{path}: {error.strerror}", remedy="it stays as it is; free disk space")


def _made(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
