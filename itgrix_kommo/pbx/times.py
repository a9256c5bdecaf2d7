"""How a CEL table writes its times, and in which zone: found out from the table itself.

A uniqueid begins with the Unix second in which its channel was made, so the row of that moment tells the zone of the
column, whatever cel_odbc's `usegmtime` and the server's session were set to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from typing import TypeAlias

from itgrix_kommo.calls.live_calls import age

TimeValue: TypeAlias = datetime | int | float | Decimal | str
"""What a driver hands over for a time column."""

SAME_MOMENT = 120.0
"""Seconds between a channel's making and its row, at most; zones differ by a quarter of an hour at least."""

QUARTER = 900


class Written(Enum):
    """The forms in which tables keep a time."""

    ZONED = "a timestamp with its zone"
    NAIVE = "a date and time"
    NUMBER = "Unix seconds"
    TEXT = "a date and time as text"
    NUMERIC_TEXT = "Unix seconds as text"


class EventTimes:
    """Turns what stands in the column into Unix seconds, and Unix seconds into what the column can be compared with.

    `samples` are times with the uniqueids of the channels they are the beginnings of; `zone` is what the column's zone
    is expected to be (None: this machine's).
    """

    def __init__(self, samples: Sequence[tuple[TimeValue, str]], zone: tzinfo | None) -> None:
        self.written = _written(samples[0][0]) if samples else Written.NAIVE
        self._separator = "T" if samples and "T" in str(samples[0][0]) else " "
        walls = [(wall, age(uniqueid)[0]) for value, uniqueid in samples if (wall := _wall(value)) is not None]
        self.zone = _zone_of([(wall, born) for wall, born in walls if math.isfinite(born)], zone)

    def unix(self, value: TimeValue, uniqueid: str) -> float:
        """Raises ValueError for what is no time. A row is never older than the channel it is about."""
        if isinstance(value, int | float | Decimal):
            return float(value)
        if isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                value = datetime.fromisoformat(value)
        if value.tzinfo is not None:
            return value.timestamp()
        at = _timestamp(value, self.zone)
        if at < age(uniqueid)[0] - SAME_MOMENT < math.inf:
            # The hour that the end of summer time repeats.
            at = _timestamp(value.replace(fold=1), self.zone)
        return at

    def in_column(self, at: float) -> datetime | float | str:
        """`at` (Unix seconds) as the column writes it."""
        if self.written is Written.NUMBER:
            return at
        if self.written is Written.NUMERIC_TEXT:
            return f"{at:.6f}"
        if self.written is Written.ZONED:
            return datetime.fromtimestamp(at, UTC)
        wall = datetime.fromtimestamp(at, self.zone).replace(tzinfo=None)
        return wall if self.written is Written.NAIVE else wall.isoformat(sep=self._separator)


def _written(value: TimeValue) -> Written:
    if isinstance(value, datetime):
        return Written.NAIVE if value.tzinfo is None else Written.ZONED
    if isinstance(value, str):
        return Written.TEXT if _wall(value) is not None else Written.NUMERIC_TEXT
    return Written.NUMBER


def _wall(value: TimeValue) -> datetime | None:
    """The clock on the wall that the value shows; None where it shows none."""
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            value = datetime.fromisoformat(value)
    return value if isinstance(value, datetime) and value.tzinfo is None else None


def _zone_of(samples: Sequence[tuple[datetime, float]], expected: tzinfo | None) -> tzinfo | None:
    if not samples:
        return expected
    for zone in (expected, UTC):
        if all(_fits(wall, born, zone) for wall, born in samples):
            return zone
    wall, born = samples[-1]
    offset = round((_timestamp(wall, UTC) - born) / QUARTER) * QUARTER
    return timezone(timedelta(seconds=offset)) if abs(offset) < 86_400 else expected


def _fits(wall: datetime, born: float, zone: tzinfo | None) -> bool:
    folds: Iterable[int] = (0, 1)
    return any(abs(_timestamp(wall.replace(fold=fold), zone) - born) < SAME_MOMENT for fold in folds)


def _timestamp(wall: datetime, zone: tzinfo | None) -> float:
    return (wall if zone is None else wall.replace(tzinfo=zone)).timestamp()
