"""When a recording is complete: it stopped growing, and nobody has it open for writing where that can be seen.

Asterisk closes the file shortly after the channel is gone, and a command of the dialplan may then work on it for a
while. `Watch` decides on looks at the file; `until_complete` takes them.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from itgrix_kommo.errors import RecordingUnfinished, RecordingUnusable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LOOK_EVERY: Final = 0.25  # seconds between two looks


class Look(NamedTuple):
    """Size in bytes, time of the last change in ns, whether somebody writes to it (None where that can't be seen)."""

    size: int
    mtime_ns: int
    being_written: bool | None


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: how long a file has to be quiet, how long it may stay absent, and how long it may go on growing."""

    quiet: float = 1.0
    absent: float = 5.0
    growing: float = 60.0


class Watch:
    """What the looks at one file (or the two of a pair) amount to. Times are seconds, from wherever."""

    def __init__(self, patience: Patience, began: float) -> None:
        self._patience = patience
        self._began = began
        self._last: tuple[Look, ...] = ()
        self._quiet_since = began

    def saw(self, looks: tuple[Look, ...], now: float) -> bool:
        """Whether it is complete; `looks` is empty while there is no file.

        Raises RecordingUnusable when it is gone, never came, or is empty; RecordingUnfinished when it never ends.
        """
        if not looks:
            if self._last:
                raise RecordingUnusable("the recording was removed before it could be used")
            if now - self._began >= self._patience.absent:
                raise RecordingUnusable("there is no such file")
            return False
        if [look[:2] for look in looks] != [look[:2] for look in self._last] or any(
            look.being_written for look in looks
        ):
            self._quiet_since = now
        self._last = looks
        if now - self._quiet_since >= self._patience.quiet:
            if not any(look.size for look in looks):
                raise RecordingUnusable("the file is empty: nothing was recorded")
            return True
        if now - self._began >= self._patience.growing:
            raise RecordingUnfinished(f"the recording was still being written {now - self._began:.0f} s after the call")
        return False


async def until_complete(
    look: Callable[[], Awaitable[tuple[Look, ...]]],
    patience: Patience,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Returns once the file is complete; raises what `Watch.saw` raises."""
    watch = Watch(patience, clock())
    while not watch.saw(await look(), clock()):
        await sleep(min(LOOK_EVERY, patience.quiet))


def look_at(descriptor: int) -> Look:
    """A look at an open file."""
    status = os.fstat(descriptor)
    return Look(status.st_size, status.st_mtime_ns, is_being_written(descriptor))


def is_being_written(descriptor: int) -> bool | None:
    """Whether another process has the file open for writing; None where this host does not tell.

    A read lease is granted only on files that nobody writes to, and only to their owner or to one with CAP_LEASE.
    """
    try:
        # Who opens the file for writing while we hold the lease waits until we let go, and we are told by a signal:
        # by default one that kills, so one that is ignored by default is asked for.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
