"""The chronicle: what the daemon decided about each call and what came of it, one JSON line each, a file for each day.

It is written from the log's own lines (see `log.follow`), so that what is told of a call is told in both, whatever the
log's level is. Lines of one turn of the event loop are one write into the page cache; a killed process loses no more.
Past days are compressed by the cleaning.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from itgrix_kommo import log

EVERYBODYS = frozenset(
    {
        "account_in_order",
        "account_problem",
        "calls_unheard",
        "configuration_reloaded",
        "downtime_filled",
        "downtime_not_filled",
        "kommo_overloaded",
        "registering_stopped",
        "registrations_not_read",
        "starting",
        "stopped",
    }
)
"""Events that are no single call's and yet tell why one waits."""

MOST_HELD = 10_000
"""Lines that wait in memory while the disk is full; beyond them lines are let go, for the row has what matters."""

DAY = 86_400.0
LONGEST = 10_000
"""Characters of facts that JSON can't hold."""

LATE = 60.0
"""Seconds by which a line may stand in the file of the day after its own."""

_DAY_FILE = re.compile(r"\d{4}-\d\d-\d\d\.jsonl(?:\.gz)?\Z")
_NOT_FACTS = frozenset({"event", "call_id", "level", "exc_info", "stack_info"})

_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode
_log = structlog.get_logger(__name__)


class Line(NamedTuple):
    """`at` is Unix seconds; `call_id` is empty where it is everybody's; `level` as in the log."""

    at: float
    call_id: str
    event: str
    level: str
    facts: dict[str, Any]


class Chronicle:
    """Hand `hear` to `log.follow`. A full disk costs it, never the calls."""

    def __init__(self, directory: Path, *, now: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._now = now
        self._held: deque[bytes] = deque()
        self._day = ""
        self._file: int | None = None
        self._is_due = False
        self._complained = False

    def hear(self, level: str, event: Mapping[str, Any]) -> None:
        """A line of the log; kept if it is a call's, or tells why calls wait."""
        call_id = event.get("call_id")
        if not call_id and (level == "debug" or event.get("event") not in EVERYBODYS):
            return
        facts = {key: value for key, value in event.items() if key not in _NOT_FACTS}
        if event.get("exc_info"):
            facts["error"] = repr(sys.exc_info()[1])
        record = {"at": round(self._now(), 3), "call_id": call_id or "", "event": event["event"], "level": level}
        try:
            text = _encode(record | facts)
        except (TypeError, ValueError, RecursionError):
            text = _encode(record | {"facts": repr(facts)[:LONGEST]})
        text = log.masked(text)
        if not self._is_due:
            self._write_soon()
        if len(self._held) < MOST_HELD:
            self._held.append(text.encode("utf-8", "replace") + b"\n")  # threads log, too

    def flush(self) -> None:
        self._is_due = False
        text = b""
        try:
            file = self._todays() if self._held else -1
            while self._held:
                text = b"".join([self._held.popleft() for _ in range(len(self._held))])
                while text:
                    text = text[os.write(file, text) :]
        except OSError as error:
            self._held.appendleft(text)
            if not self._complained:
                self._complained = True
                words = f"{self._directory}: {error.strerror}"
                _log.warning("chronicle_not_written", error=words, remedy="free disk space, or let the daemon own it")
            return
        self._complained = False

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write_soon(self) -> None:
        try:
            asyncio.get_running_loop().call_soon(self.flush)
        except RuntimeError:
            return  # nobody's turn: the next one writes it, or the end does
        self._is_due = True

    def _todays(self) -> int:
        day = f"{datetime.fromtimestamp(self._now(), UTC):%Y-%m-%d}"
        if self._file is None or day != self._day:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            file = os.open(self._directory / f"{day}.jsonl", flags, 0o600)
            if self._file is not None:
                os.close(self._file)
            self._file, self._day = file, day
        return self._file


def days_of(directory: Path) -> list[tuple[float, Path]]:
    """The chronicle's files, each with the Unix time at which its day begins, in their order."""
    try:
        paths = sorted(path for path in directory.iterdir() if _DAY_FILE.match(path.name))
    except FileNotFoundError:
        return []
    # While a day is being compressed there are two of it.
    of_day = {path.name[:10]: path for path in reversed(paths)}
    return sorted((_begins(day), path) for day, path in of_day.items())


def lines(
    directory: Path,
    since: float,
    until: float,
    *,
    about: Collection[str] = (),
    events: Collection[str] = (),
    is_last: Callable[[Line], bool] = lambda _: False,
) -> Iterator[Line]:
    """Lines between the two (Unix seconds), in their order: those of the calls `about`, and everybody's; or `events`.

    What can't be read is left out. Days after the one with a line that `is_last` are not looked at.
    """
    wanted = [json.dumps(call_id).encode() for call_id in (*about, "")] if about else []
    wanted += [json.dumps(event).encode() for event in events]
    for begins, path in days_of(directory):
        if begins + DAY < since or begins > until + LATE:
            continue
        has_last = False
        for text in _text_of(path).splitlines():
            if any(one in text for one in wanted):
                line = _line(text)
                if line is not None and since <= line.at <= until and _is_wanted(line, about, events):
                    has_last = has_last or is_last(line)
                    yield line
        if has_last:
            return


def latest(directory: Path, events: Collection[str], until: float) -> list[Line]:
    """The lines of these events on the last day before `until` (Unix seconds) that has any."""
    for begins, _ in reversed(days_of(directory)):
        if begins < until and (found := list(lines(directory, begins, min(begins + DAY, until), events=events))):
            return found
    return []


def _is_wanted(line: Line, about: Collection[str], events: Collection[str]) -> bool:
    return line.event in events or bool(about and (line.call_id in about or not line.call_id))


def _begins(day: str) -> float:
    try:
        return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def _text_of(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        _log.warning("chronicle_unreadable", path=str(path), error=repr(error))
        return b""


def _line(text: bytes) -> Line | None:
    """None for what a power cut or an erasure left of it."""
    try:
        record = json.loads(text)
        at, event = float(record.pop("at")), str(record.pop("event"))
        return Line(at, str(record.pop("call_id")), event, str(record.pop("level", "info")), record)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
