"""The converted recordings kept on this host: one mp3 each, of which the least recently heard go first.

A file's modification time is that of the recording it was made from; its access time is when it was last heard, and is
set by us, since file systems keep their own account of it loosely or not at all.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_NANOSECONDS: Final = 1_000_000_000
_LEFT_BEHIND: Final = 86_400  # seconds after which a scratch directory surely belongs to nobody
_OURS: Final = re.compile(r"[0-9a-f]{64}\.mp3")


class _Kept(NamedTuple):
    heard_at: float
    size: int
    path: Path


def is_current(converted: Path, recorded_at: int) -> bool:
    """Whether `converted` was made of a source last changed at `recorded_at` (ns), as far as whole seconds tell."""
    try:
        status = converted.stat()
    except FileNotFoundError:
        return False
    return status.st_size > 0 and status.st_mtime_ns // _NANOSECONDS == recorded_at // _NANOSECONDS


class Converted:
    """`limit` is in bytes, `days` since a file was last heard. All of it touches the disk: call it in a thread."""

    def __init__(self, directory: Path, *, limit: int, days: float) -> None:
        self.work = directory / "work"
        self._directory = directory
        self._limit = limit
        self._oldest = days * 86_400
        self._size = 0

    def path_of(self, recording_id: str) -> Path:
        digest = hashlib.sha256(recording_id.encode(errors="surrogatepass")).hexdigest()
        return self._directory / digest[:2] / f"{digest}.mp3"

    def heard(self, path: Path, now: float) -> None:
        with suppress(OSError):  # a file that goes at this instant needs no time
            os.utime(path, ns=(int(now * _NANOSECONDS), path.stat().st_mtime_ns))

    def added(self, path: Path, now: float) -> None:
        """Count a new file, and make room for it if the limit is passed."""
        self.heard(path, now)
        with suppress(OSError):
            self._size += path.stat().st_size
        if self._size > self._limit:
            self.sweep(now, spare=path)

    def sweep(self, now: float, *, spare: Path | None = None) -> int:
        """Remove what was not heard for too long, then the least recently heard until the limit is kept.

        `spare` stays in any case. Returns the number of files removed.
        """
        kept = sorted(self._kept())
        self._size = sum(one.size for one in kept)
        removed = 0
        for one in kept:
            if one.path == spare or (self._size <= self._limit and now - one.heard_at <= self._oldest):
                continue
            with suppress(OSError):
                one.path.unlink()
                removed += 1
                self._size -= one.size
        self._clear_work(now)
        return removed

    def _kept(self) -> Iterator[_Kept]:
        for path in self._directory.glob("[0-9a-f][0-9a-f]/*.mp3"):
            with suppress(OSError):
                status = path.stat()
                if _OURS.fullmatch(path.name):
                    yield _Kept(status.st_atime, status.st_size, path)

    def _clear_work(self, now: float) -> None:
        """Workers that were killed with the daemon could not clean up; a younger directory may be another process's."""
        for path in self.work.glob("*"):
            with suppress(OSError):
                if now - path.stat().st_mtime > _LEFT_BEHIND:
                    shutil.rmtree(path, ignore_errors=True)
