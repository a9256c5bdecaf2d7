"""The casebook: all that is kept about a call, wherever it is kept. It only reads, whether the daemon runs or not.

A call that goes to Kommo has a row. Of one that does not, the chronicle has a line, and the journal what happened; of
one that goes on there is only the journal. The journal is replayed by the tracker's own rules.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Collection, Iterator
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from itgrix_kommo.ami.decode import decode
from itgrix_kommo.calls.call import Call, StageName
from itgrix_kommo.calls.numbers import NumberPlan, e164
from itgrix_kommo.calls.tracker import Tracker
from itgrix_kommo.calls.view import freeze
from itgrix_kommo.pipeline.intake import CALL, EARLY
from itgrix_kommo.pipeline.timeline import ACCOUNT
from itgrix_kommo.storage.chronicle import DAY, Line, latest, lines
from itgrix_kommo.storage.files import CHRONICLE, JOURNAL
from itgrix_kommo.storage.journal import read_segments, segments_of, spanning
from itgrix_kommo.storage.registrations import UNFINISHED, Registration, Registrations, State
from itgrix_kommo.storage.shared import SharedDatabase
from itgrix_kommo.storage.standing import as_shared
from itgrix_kommo.storage.trace import Recorded

ROUND_ABOUT = 60.0
"""Seconds before a call and after it in which lines about it may stand."""

UNREGISTERED = "call_not_registered"

_LONGEST_NUMBER = 18
_BEGAN = re.compile(r"(?:.*-)?(\d{9,11})\.\d+\Z")
"""A linkedid or uniqueid: perhaps the PBX's name, then the Unix time at which the channel came."""


class Standing(StrEnum):
    """What has become of a call; `live`: it goes on, `handed`: the nodes of the account see to it together."""

    LIVE = "live"
    WAITING = State.WAITING.value
    HANDED = State.HANDED.value
    DONE = State.DONE.value
    SKIPPED = State.SKIPPED.value
    FAILED = State.FAILED.value


class Brief(NamedTuple):
    """A call in one line; `registration_id` is None where it has no row. Times are Unix seconds."""

    call_id: str
    started_at: float
    parties: str
    type: str
    result: str
    duration: int
    standing: Standing
    reason: str
    registration_id: int | None


class Case(NamedTuple):
    """All about one call. `behind` is the client's registration that this one waits for; `early` made his cards."""

    call_id: str
    call: Call | None
    registration: Registration | None
    early: Registration | None
    behind: int | None
    lines: list[Line]


class Casebook:
    """`files` is the daemon's directory (see `storage.files`), `shared` the database of several nodes."""

    def __init__(
        self, files: Path, registrations: Registrations, plan: NumberPlan, shared: SharedDatabase | None = None
    ) -> None:
        self._files = files
        self._shared = shared
        self._registrations = registrations
        self._plan = plan

    async def cases(
        self, since: float, until: float, *, phone: str = "", standings: Collection[Standing] = (), limit: int
    ) -> list[Brief]:
        """Calls that began between the two, the latest first. `phone` is any part of a number that took part."""
        wanted = set(standings) or set(Standing)
        digits = self._digits(phone)
        found: list[Brief] = []
        states = [State(one) for one in wanted if one is not Standing.LIVE]
        if states:
            for part in digits or {""}:
                rows = await self._registrations.between(since, until, states=states, client=part, limit=limit)
                rows = await as_shared(self._shared, [row for row in rows if not row.call_id.endswith(EARLY)])
                found += [_of_row(row) for row in rows]
        unregistered = await asyncio.to_thread(self._unregistered, since, until) if Standing.SKIPPED in wanted else []
        live = await asyncio.to_thread(self._live) if Standing.LIVE in wanted else []
        known = {one.call_id for one in found}
        found += [
            one
            for one in (*unregistered, *live)
            if one.call_id not in known and since <= one.started_at <= until and _took_part(digits, one)
        ]
        return sorted(dict.fromkeys(found), key=lambda one: one.started_at, reverse=True)[:limit]

    async def find(self, name: str) -> Case | None:
        """The call of this linkedid, uniqueid or registration id; None where nothing is known of it."""
        row = await self._row(name)
        if row is None and "-" in name:
            row = await self._row(name.partition("-")[2])  # as Kommo has it from one of several nodes
        if row is not None:
            (row,) = await as_shared(self._shared, [row])
            call = _call_of(row)
            ids = call.aliases if call else {row.call_id}
            early = await self._registrations.by_call(row.call_id.removesuffix(EARLY) + EARLY)
            behind = await self._registrations.before_in_line(row) if row.state is State.WAITING else None
            since, until = (call.started_at if call else row.created_at) - ROUND_ABOUT, time.time()
            told = await asyncio.to_thread(self._lines, ids, since, until, partial(_closes, row))
            if row.state in UNFINISHED:
                told = [*await asyncio.to_thread(latest, self._files / CHRONICLE, ACCOUNT, since), *told]
            return Case(row.call_id, call, row, early if early and early.id != row.id else None, behind, told)
        return await asyncio.to_thread(self._find_unregistered, name)

    async def frames(self, case: Case) -> list[Recorded]:
        """What Asterisk said of this call, as far as the journal has it."""
        if case.call is None:
            return []
        return await asyncio.to_thread(self._frames, case.call)

    def _digits(self, phone: str) -> set[str]:
        """As it was given, and as it stands in a client's key."""
        given = re.sub(r"\D+", "", phone)
        if phone and not given:
            return {phone}
        keyed = e164(phone, self._plan.region) or ""
        return {one for one in (given, keyed.removeprefix("+")) if one}

    async def _row(self, name: str) -> Registration | None:
        if name.isascii() and name.isdigit() and len(name) <= _LONGEST_NUMBER:
            return await self._registrations.get(int(name))
        return await self._registrations.by_call(name)

    def _lines(
        self, ids: Collection[str], since: float, until: float, is_last: Callable[[Line], bool] = lambda _: False
    ) -> list[Line]:
        about = {*ids, *(one + EARLY for one in ids)}
        return list(lines(self._files / CHRONICLE, since, until, about=about, is_last=is_last))

    def _unregistered(self, since: float, until: float) -> list[Brief]:
        """Calls without a row are told once, at their end."""
        told = lines(self._files / CHRONICLE, since, until + DAY, events={UNREGISTERED})
        return [brief for line in told if (brief := _of_line(line)) is not None]

    def _live(self) -> list[Brief]:
        return [_of_live(call) for call in self._replayed(segments_of(self._files / JOURNAL)) if call.outcome is None]

    def _find_unregistered(self, name: str) -> Case | None:
        began = _BEGAN.match(name)
        since, until = (float(began[1]) - ROUND_ABOUT, float(began[1]) + DAY) if began else (0.0, time.time())
        for call in self._replayed(spanning(self._files / JOURNAL, since, until)):
            if name in call.aliases:
                told = self._lines(call.aliases, call.started_at - ROUND_ABOUT, time.time())
                return Case(call.id, call, None, None, None, told)
        # The journal's file may be gone: what was told at its end is left.
        for line in lines(self._files / CHRONICLE, since, until + DAY, events={UNREGISTERED}):
            if name in line.facts.get("ids", ()):
                told = self._lines(line.facts["ids"], since, time.time())
                return Case(line.call_id, None, None, None, None, told)
        return None

    def _replayed(self, paths: list[Path]) -> Iterator[Call]:
        """The calls that these files tell of, the live ones last."""
        tracker, last = Tracker(self._plan), 0.0
        for last, frame in read_segments(paths).frames:
            event = decode(frame, last)
            if event is not None:
                yield from (stage.call for stage in tracker.feed(event) if stage.name is StageName.CALL_ENDED)
        yield from (stage.call for stage in tracker.advance(last + ROUND_ABOUT) if stage.name is StageName.CALL_ENDED)
        yield from (freeze(live, None) for live in tracker.calls.values())

    def _frames(self, call: Call) -> list[Recorded]:
        ids = {one.encode() for one in call.aliases}
        ended = call.ended_at or time.time()
        frames = read_segments(spanning(self._files / JOURNAL, call.started_at, ended)).frames
        return [one for one in frames if not ids.isdisjoint(_values(one.frame))]


def _values(frame: bytes) -> Iterator[bytes]:
    return (line.partition(b": ")[2] for line in frame.split(b"\r\n"))


def _took_part(digits: Collection[str], brief: Brief) -> bool:
    numbers = [re.sub(r"\D+", "", number) for number in brief.parties.split()]
    return not digits or any(part in number for part in digits for number in numbers)


def _closes(row: Registration, line: Line) -> bool:
    """Whether nothing comes after this line: what failed may be tried again months later."""
    is_over = row.state in {State.DONE, State.SKIPPED} and line.facts.get("state") == row.state
    return is_over and (line.event, line.call_id) == ("registration_closed", row.call_id)


def _call_of(row: Registration) -> Call | None:
    """None for what another version has kept in a way that is not known here."""
    try:
        return CALL.validate_python(row.call)
    except ValidationError:
        return None


def _of_row(row: Registration) -> Brief:
    call = _call_of(row)
    if call is None:
        standing = Standing(row.state)
        return Brief(row.call_id, row.created_at, row.client, "unknown", "", 0, standing, row.reason, row.id)
    result = call.outcome.text if call.outcome else ""
    standing = Standing(row.state)
    return Brief(
        call.id, call.started_at, _parties(call), call.type.value, result, call.duration, standing, row.reason, row.id
    )


def _of_live(call: Call) -> Brief:
    return Brief(call.id, call.started_at, _parties(call), call.type.value, "", 0, Standing.LIVE, "it goes on", None)


def _of_line(line: Line) -> Brief | None:
    facts = line.facts
    try:
        return Brief(
            line.call_id,
            float(facts["started_at"]),
            str(facts["parties"]),
            str(facts["type"]),
            str(facts["result"]),
            int(facts["duration_s"]),
            Standing.SKIPPED,
            str(facts["reason"]),
            None,
        )
    except (KeyError, ValueError, TypeError):
        return None


def _parties(call: Call) -> str:
    return f"{call.channel.from_.number or '?'} → {call.channel.to.number or '?'}"
