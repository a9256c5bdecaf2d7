"""Calls of the past: read from the PBX's CEL table, understood by the tracker's rules, kept as rows like live ones.

Whatever AMI or an earlier reading has kept is met again by its ids, so a period may be read as often as one likes, and
a reading that was broken off goes on by being begun anew. History hurries nobody: it keeps few calls at a time while
others wait for their registration.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import NamedTuple

import structlog

from itgrix_kommo.calls.call import Call
from itgrix_kommo.calls.cel import calls_of
from itgrix_kommo.calls.events import Event, Resync
from itgrix_kommo.calls.live_calls import STALE_AFTER
from itgrix_kommo.calls.numbers import NumberPlan
from itgrix_kommo.config import PbxDatabase
from itgrix_kommo.errors import StorageError
from itgrix_kommo.pbx.cel import PbxCalls, WholeCall
from itgrix_kommo.pipeline.intake import registration_of, why_not
from itgrix_kommo.storage.registrations import UNFINISHED, NewRegistration, Registrations, State

MOST_WAITING = 40
"""Registrations in line before history waits: a call that ends now comes after so many at most."""

LOOK_AFTER = 10
"""Calls kept between two looks at the line."""

LINE_STANDS_AFTER = 30.0
"""Seconds without progress after which nobody serves the line (the daemon is down, or Kommo): waiting is of no use."""

LOOK_AGAIN = 0.5
"""Seconds between looks at a line that is too long."""

ROUND_ABOUT = 60.0
"""Seconds added to either end of a downtime: clocks of hosts and of databases differ."""

EARLIEST, LATEST = 100_000_000.0, 32_503_680_000.0
"""Unix seconds between which times are believed: 20261122 is no time of 1970, but a date without its dashes."""

HISTORY = "from_history"
"""Marks the JSON of a call that was not heard live."""

FORGOTTEN = "too long ago: it may have been registered, and its row cleaned away since (storage.retention_days)"

_log = structlog.get_logger(__name__)


class Fate(StrEnum):
    """What became of a call of the past."""

    REGISTERED = "registered"
    KNOWN = "already registered"
    SKIPPED = "skipped"
    FAILED = "failed"


class Read(NamedTuple):
    """One call of the past; `reason` says why it was skipped or failed. `ended_at` is Unix seconds, 0.0 if unknown."""

    call_id: str
    fate: Fate
    reason: str = ""
    type: str = ""
    client: str = ""
    ended_at: float = 0.0

    def facts(self, zone: tzinfo | None) -> dict[str, str]:
        """What programs are told; `ended` as the PBX's clock in `zone` showed it, empty if unknown."""
        return {
            "call_id": self.call_id,
            "fate": self.fate.value,
            "reason": self.reason,
            "type": self.type,
            "client": self.client,
            "ended": self.ended(zone),
        }

    def ended(self, zone: tzinfo | None) -> str:
        return f"{datetime.fromtimestamp(self.ended_at, zone):%Y-%m-%d %H:%M:%S}" if self.ended_at else ""


class History:
    """`on_kept` is told when a call has become a row; `keep` makes the row, if the CRM is to know the call.

    Reading raises StorageError where one of the two databases fails; what was kept until then stays kept.
    """

    def __init__(
        self,
        pbx: PbxCalls,
        registrations: Registrations,
        plan: NumberPlan,
        *,
        on_kept: Callable[[], None] = lambda: None,
        keep: Callable[[Call, NumberPlan], NewRegistration | None] = registration_of,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._pbx = pbx
        self._registrations = registrations
        self._plan = plan
        self._on_kept = on_kept
        self._keep = keep
        self._now = now
        self._sleep = sleep
        self._kept = 0
        self._forgotten_before: float | None = None
        self._line_stands = False

    async def of_period(self, since: float, until: float) -> AsyncGenerator[Read]:
        """Every call with a row between the two (Unix seconds), by its end."""
        async for whole in self._pbx.between(since, until):
            for read in await self._take(whole):
                yield read

    async def of_ids(self, ids: Sequence[str]) -> AsyncGenerator[Read]:
        """The calls that have these linkedids or uniqueids, in their order; of one that is not there it says so."""
        told: set[str] = set()
        for call_id in ids:
            if call_id in told:
                continue
            found = await self._pbx.with_ids([call_id])
            if not found:
                yield Read(call_id, Fate.FAILED, "the CEL table has no row of it: give its linkedid or uniqueid")
            for whole in found:
                told |= {row.linkedid for row in whole.rows} | {row.uniqueid for row in whole.rows}
                for read in await self._take(whole):
                    yield read

    async def _take(self, whole: WholeCall) -> list[Read]:
        first, last = whole.rows[0], max(row.at for row in whole.rows)
        if not whole.is_over and self._now() - last < STALE_AFTER:
            return [Read(first.linkedid, Fate.SKIPPED, "it has not ended yet")]
        # One call after the other, and between them whatever else there is to do.
        await asyncio.sleep(0)
        try:
            calls = calls_of(whole.rows, whole.records, self._plan)
        except Exception as error:  # noqa: BLE001 (a call that we misread must not end the reading of all others)
            _log.exception("call_not_understood", call_id=first.linkedid)
            return [Read(first.linkedid, Fate.FAILED, f"its rows were not understood: {error!r}: report it")]
        return [await self._take_call(call) for call in calls]

    async def _take_call(self, call: Call) -> Read:
        new = self._keep(call, self._plan)
        if new is None:
            return self._read(call, Fate.SKIPPED, why_not(call))
        if new.state is State.SKIPPED:
            return self._read(call, Fate.SKIPPED, new.reason)
        if call.started_at < await self._horizon() and await self._registrations.by_call(call.id) is None:
            return self._read(call, Fate.SKIPPED, FORGOTTEN)
        await self._wait_in_line()
        new = dataclasses.replace(new, call={**new.call, HISTORY: True})
        if await self._registrations.keep(new) is None:
            return self._read(call, Fate.KNOWN)
        self._kept += 1
        self._on_kept()
        _log.info("call_from_history", call_id=call.id, type=call.type.value, client=call.client.number)
        return self._read(call, Fate.REGISTERED)

    @staticmethod
    def _read(call: Call, fate: Fate, reason: str = "") -> Read:
        return Read(call.id, fate, reason, call.type.value, call.client.number, call.ended_at or 0.0)

    async def _horizon(self) -> float:
        if self._forgotten_before is None:
            self._forgotten_before = await self._registrations.horizon()
        return self._forgotten_before

    async def _wait_in_line(self) -> None:
        """Calls that end now must not stand behind a month of old ones."""
        if self._line_stands or self._kept == 0 or self._kept % LOOK_AFTER:
            return
        shortest, waited = None, 0.0
        while (waiting := await self._unfinished()) >= MOST_WAITING:
            if shortest is None or waiting < shortest:
                shortest, waited = waiting, 0.0
            if waited >= LINE_STANDS_AFTER:
                self._line_stands = True
                _log.warning("line_stands", waiting=waiting, remedy="calls of the past are put in line all the same")
                return
            waited += LOOK_AGAIN
            await self._sleep(LOOK_AGAIN)

    async def _unfinished(self) -> int:
        counts = await self._registrations.counts()
        return sum(counts.get(state, 0) for state in UNFINISHED)


class Gaps:
    """The spans in which nobody listened, as Resyncs tell of them: the daemon was down, or had no link."""

    def __init__(self) -> None:
        self._spans: asyncio.Queue[tuple[float, float]] = asyncio.Queue()

    def hear(self, batch: Iterable[tuple[bytes, Event]]) -> None:
        for _, event in batch:
            if isinstance(event, Resync) and event.blind_since is not None:
                self._spans.put_nowait((event.blind_since, event.at))

    async def next(self) -> tuple[float, float]:
        """The next one, in Unix seconds; what lives at its end is known by then."""
        return await self._spans.get()


@asynccontextmanager
async def opened_history(
    database: PbxDatabase,
    zone: tzinfo | None,
    registrations: Registrations,
    plan: NumberPlan,
    *,
    on_kept: Callable[[], None] = lambda: None,
) -> AsyncIterator[History]:
    """The calls of the past in this PBX's tables. Raises StorageError where they can't be read."""
    pbx = await PbxCalls.open(database, zone)
    try:
        yield History(pbx, registrations, plan, on_kept=on_kept)
    finally:
        await pbx.close()


async def fill_downtime(
    database: PbxDatabase,
    zone: tzinfo | None,
    registrations: Registrations,
    plan: NumberPlan,
    *,
    since: float,
    until: float,
    on_kept: Callable[[], None] = lambda: None,
) -> None:
    """Register what ended while nobody listened, between the two (Unix seconds).

    To be asked for once Asterisk's live channels are known: what still lives is theirs to tell. Raises nothing: a
    database that fails is told in the log, with the command that does it by hand.
    """
    fates = dict.fromkeys(Fate, 0)
    try:
        async with opened_history(database, zone, registrations, plan, on_kept=on_kept) as history:
            async for read in history.of_period(since - ROUND_ABOUT, until + ROUND_ABOUT):
                fates[read.fate] += 1
    except StorageError as error:
        by_hand = f"itgrix-kommo read-call --from {since:.0f} --to {until:.0f}"
        _log.error("downtime_not_filled", error=str(error), remedy=by_hand)
        return
    told = {fate.name.lower(): count for fate, count in fates.items()}
    _log.info("downtime_filled", since=since, until=until, **told)


def moment(text: str, zone: tzinfo | None) -> float:
    """Unix seconds of `YYYY-MM-DD hh:mm:ss` in `zone` (None: this machine's), Unix seconds, or ISO 8601 with its zone.

    Raises ValueError, which says how to write it.
    """
    text = text.strip()
    try:
        at = float(text) if text.replace(".", "", 1).isdecimal() else _on_the_clock(text, zone)
    except (ValueError, OverflowError, OSError):
        at = math.nan
    if not EARLIEST <= at < LATEST:
        raise ValueError(
            f'{text[:40]!r} is no time: write "2026-11-22 14:00:00", Unix seconds, or "2026-11-22T14:00:00+03:00"'
        )
    return at


def _on_the_clock(text: str, zone: tzinfo | None) -> float:
    told = datetime.fromisoformat(text)
    return (told.replace(tzinfo=zone) if told.tzinfo is None else told).timestamp()
