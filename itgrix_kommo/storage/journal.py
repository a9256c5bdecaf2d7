"""The journal: every frame the tracker was fed, until the calls it tells of are over and kept.

It is a directory of trace files (see `trace`), appended to before an event has any effect: one write into the page
cache per network chunk, some microseconds, and nothing that was received is lost with the process. Now and then it is
brought to the disk, off the event loop; a power cut costs what came since.

A call that was kept leaves a remark, ``# ended`` with all its ids, by which a replay knows what to pass over. A file
before whose end nothing alive began moves aside, into ``ended``, where the timeline looks (see `spanning`).

While nothing can be written, on a full disk, what is heard waits in memory, and is written once there is room again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import re
import zlib
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from itgrix_kommo.errors import StorageError, TraceError
from itgrix_kommo.storage.trace import Recorded, encode, parse

SEGMENT_BYTES = 4 << 20
"""Of one file; some two hundred calls."""

SYNC_EVERY = 1.0
"""Seconds between bringing the journal to the disk: what a power cut may cost."""

MOST_HELD = 64 << 20
"""Bytes that wait in memory while they can't be written; three thousand calls. Beyond them the oldest are let go."""

ENDED = "ended"
"""The directory, within the journal's, of the files that no live call needs."""

_ENDED = b"# ended "
_SEGMENT = re.compile(r"\d{8}\.trace(?:\.gz)?\Z")

_log = structlog.get_logger(__name__)


class Left(NamedTuple):
    """What an earlier daemon left: its frames in order, and the ids of the calls among them that were kept."""

    frames: list[Recorded]
    ended: frozenset[str]


class Journal:
    """Open it once `read` is done with; raises StorageError where the directory can't be used."""

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._segments = segments_of(directory)
            numbers = [int(path.name[:8]) for path in (*self._segments, *segments_of(directory / ENDED))]
        except OSError as error:
            raise StorageError(f"{directory} can't be used: {error.strerror}: let the daemon's user own it") from error
        self._last_at = {path: path.stat().st_mtime for path in self._segments}
        self._number = max(numbers, default=0)
        self._file: int | None = None
        self._size = 0
        self._unsynced = False
        self._held: deque[bytes] = deque()
        self._lost = 0
        self.held_bytes = 0
        self.error = ""
        """Why nothing can be written at present, or empty; `held_bytes` wait for it."""

    def append(self, received: Iterable[tuple[float, bytes]]) -> None:
        """Keep frames with the times of their arrival. A full disk is told once, and delays the writing alone."""
        records = b"".join([encode(at, frame) for at, frame in received])
        self._write(records)

    def ended(self, ids: frozenset[str]) -> None:
        """The calls with these ids have been kept: a replay passes over them."""
        self._write(_ENDED + " ".join(sorted(ids)).encode() + b"\n\n")

    def read(self) -> Left:
        """All that is there. What can't be read of it is told in the log and left out."""
        return read_segments(self._segments)

    def forget_before(self, at: float) -> None:
        """Move files aside whose last frame came before `at`: nothing alive began earlier."""
        for path in [path for path in self._segments if self._last_at[path] < at]:
            if path == self._current():
                continue
            try:
                (self._directory / ENDED).mkdir(mode=0o700, exist_ok=True)
                path.rename(self._directory / ENDED / path.name)
            except FileNotFoundError:
                pass  # somebody has tidied up: there is nothing to keep any more
            except OSError as error:
                _log.error("journal_not_moved", error=f"{path}: {error.strerror}", remedy="tried again")
                return
            self._segments.remove(path)
            del self._last_at[path]

    async def run(self) -> None:
        """Bring what was written to the disk every second, for ever."""
        while True:
            await asyncio.sleep(SYNC_EVERY)
            await self.sync()

    async def sync(self) -> None:
        if self._held:
            self._write_held()
        if self._unsynced and self._file is not None:
            self._unsynced = False
            try:
                await asyncio.to_thread(os.fdatasync, self._file)
            except OSError as error:
                self._complain(error)

    def close(self) -> None:
        if self._held:
            _log.error("journal_lost", bytes=self.held_bytes, remedy="calls that were under way are incomplete")
        self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _current(self) -> Path | None:
        return self._segments[-1] if self._file is not None else None

    def _write(self, records: bytes) -> None:
        """Behind what waits already, so that the order stays."""
        self._held.append(records)
        self.held_bytes += len(records)
        self._write_held()
        while self.held_bytes > MOST_HELD:
            if not self._lost:
                _log.error("journal_lost", remedy="free disk space; a crash now would forget calls under way")
            lost = self._held.popleft()
            self.held_bytes -= len(lost)
            self._lost += len(lost)

    def _write_held(self) -> None:
        try:
            while self._held:
                file = self._file
                if file is None or self._size >= self._segment_bytes:
                    file = self._begin_segment()
                records = self._held[0]
                while records:
                    records = records[os.write(file, records) :]
                self._size += len(self._held[0])
                self.held_bytes -= len(self._held.popleft())
                self._unsynced = True
        except OSError as error:
            self._cut_back()
            self._complain(error)
            return
        if self.error:
            _log.info("journal_written_again", lost_bytes=self._lost)
            self.error, self._lost = "", 0

    def _cut_back(self) -> None:
        """Half a message on a full disk would swallow the beginning of the next one."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
                os.lseek(self._file, self._size, os.SEEK_SET)

    def _begin_segment(self) -> int:
        ended = self._current()
        if ended is not None:
            self._last_at[ended] = ended.stat().st_mtime
        self._close_file()
        self._number += 1
        path = self._directory / f"{self._number:08}.trace"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._segments.append(path)
        self._last_at[path] = float("inf")
        self._size = 0
        return self._file

    def _complain(self, error: OSError) -> None:
        if not self.error:
            _log.error(
                "journal_not_written",
                error=f"{self._directory}: {error.strerror}",
                remedy="free disk space; calls are heard all the same, but a crash would forget those under way",
            )
        self.error = f"{self._directory}: {error.strerror}"


def segments_of(directory: Path) -> list[Path]:
    """The files of a journal in their order, compressed ones among them; none where there is no such directory."""
    try:
        paths = sorted(path for path in directory.iterdir() if _SEGMENT.match(path.name))
    except FileNotFoundError:
        return []
    # While one is being compressed there are two of it.
    return sorted({path.name[:8]: path for path in reversed(paths)}.values())


def spanning(directory: Path, since: float, until: float) -> list[Path]:
    """The journal's files that may tell of the time between the two (Unix seconds), those of ended calls among them."""
    found = []
    for path in sorted((*segments_of(directory / ENDED), *segments_of(directory)), key=lambda one: one.name):
        try:
            if path.stat().st_mtime >= since and _begins(path) <= until:
                found.append(path)
        except OSError:
            continue  # it moves aside at this moment, or can't be read: what it tells of is missing
    return found


def _begins(path: Path) -> float:
    """The time of its first frame; 0.0 where that can't be told."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        first = file.read(40).partition(b"\n")[0]
    try:
        return float(first.removeprefix(b"@ "))
    except ValueError:
        return 0.0


def read_segments(paths: Sequence[Path]) -> Left:
    """What these files hold. What can't be read of it is told in the log and left out."""
    frames: list[Recorded] = []
    ended: set[str] = set()
    for path in paths:
        try:
            text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            text = text[: text.rfind(b"\n\n") + 2]  # a message without its empty line was cut off by a power cut
            frames += parse(text, path.name)
        except (OSError, EOFError, zlib.error, TraceError) as error:
            _log.error("journal_unreadable", error=str(error), remedy="calls of that moment may be missing")
            continue
        for line in text.split(b"\n"):
            if line.startswith(_ENDED):
                ended.update(line[len(_ENDED) :].decode("utf-8", "replace").split(" "))
    return Left(frames, frozenset(ended))
