"""A small model of Asterisk: it does what a PBX does, tells it in events, and knows who really talked with whom.

Its events follow recorded ones. `told` numbers them by steps: within one step Asterisk gives no order to events that
share neither a channel nor a bridge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.call import CallType


@dataclass(slots=True, eq=False)
class Family:
    """What must become one call. `accepted` is when each phone first talked, with the client if there is one."""

    type: CallType
    lines: list[Line] = field(default_factory=list)
    client: Line | None = None
    talked: dict[str, float] = field(default_factory=dict)
    talked_with_client: dict[str, float] = field(default_factory=dict)
    silent_at: float | None = None

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(line.uniqueid for line in self.lines)

    @property
    def answered(self) -> bool:
        return bool(self.talked_with_client if self.client else self.talked)


@dataclass(slots=True, eq=False)
class Line:
    """A channel. Of a Local pair `other_half` is the other one."""

    name: str
    uniqueid: str
    linkedid: str
    state: int
    number: str
    exten: str
    family: Family
    is_phone: bool = True
    extension: str = ""
    other_half: Line | None = None
    room: Table | None = None
    live: bool = True
    application: str = ""
    started_at: float = 0.0

    @property
    def shown(self) -> ev.Channel:
        return ev.Channel(
            self.name, self.uniqueid, self.linkedid, self.state, self.number, "", "", "", "ctx", self.exten
        )


@dataclass(slots=True, eq=False)
class Table:
    """A bridge and who is in it."""

    id: str
    type: str = "basic"
    technology: str = "simple_bridge"
    lines: list[Line] = field(default_factory=list)

    @property
    def shown(self) -> ev.Bridge:
        return ev.Bridge(self.id, self.type, self.technology, "")


@dataclass(slots=True)
class Attempt:
    """A phone being rung, and the hops that lead to it: (who dials, what it dials), the nearest to the caller first."""

    phone: Line
    hops: list[tuple[Line, Line]]


class ModelPbx:
    def __init__(self, random: Random, start: float) -> None:
        self.random = random
        self.now = start
        self.step = 0
        self.told: list[tuple[int, ev.Event]] = []
        self.families: list[Family] = []
        self.lines: dict[str, Line] = {}
        self.tables: dict[str, Table] = {}
        self._count = 0

    # Time

    def then(self) -> None:
        """Note who talks now; what follows is told after what went before."""
        for table in self.tables.values():
            self._note_talks(self.audible_from(table))
        self.step += 1

    def pass_time(self, seconds: float) -> None:
        self.then()
        self.now += seconds

    def _note_talks(self, phones: list[Line]) -> None:
        for line in phones if len(phones) > 1 else []:
            family = line.family
            family.talked.setdefault(line.uniqueid, self.now)
            if family.client in phones and line is not family.client:
                family.talked_with_client.setdefault(line.uniqueid, self.now)

    @staticmethod
    def audible_from(table: Table) -> list[Line]:
        """The answered phones that hear each other from this bridge on, through Local pairs."""
        found: list[Line] = []
        tables, seen = [table], {table.id}
        while tables:
            here = tables.pop()
            if here.technology == "holding_bridge":
                continue
            for line in here.lines:
                beyond = line.other_half.room if line.other_half else None
                if line.is_phone and line.state == ev.UP:
                    found.append(line)
                elif beyond is not None and beyond.id not in seen:
                    seen.add(beyond.id)
                    tables.append(beyond)
        return found

    def talking(self) -> Iterator[str]:
        for table in self.tables.values():
            phones = self.audible_from(table)
            if len(phones) > 1:
                yield from (line.uniqueid for line in phones)

    def snapshot(self, *, asked_at: float, blind_since: float | None) -> ev.Resync:
        channels = tuple(
            ev.LiveChannel(
                line.shown,
                line.application,
                "",
                line.room.id if line.room else "",
                float(int(line.started_at)),
            )
            for line in self.lines.values()
        )
        bridges = tuple(table.shown for table in self.tables.values())
        return ev.Resync(self.now, asked_at, channels, bridges, blind_since)

    # Telling

    def tell(self, event: type[Any], *values: object) -> None:
        shown = (value.shown if isinstance(value, Line | Table) else value for value in values)
        self.told.append((self.step, event(self.now, *shown)))

    # Channels

    def line(self, device: str, number: str = "", *, exten: str = "", of: Line | None = None, state: int) -> Line:
        """A new channel; with `of` it is made for that one and carries its linkedid."""
        self._count += 1
        uniqueid = f"{int(self.now)}.{self._count}"
        family = of.family if of else Family(CallType.UNKNOWN)
        if of is None:
            self.families.append(family)
        linkedid = of.linkedid if of else uniqueid
        line = Line(f"{device}-{self._count:08x}", uniqueid, linkedid, state, number, exten, family)
        line.started_at = self.now
        self._born(line)
        return line

    def _born(self, line: Line) -> None:
        line.family.lines.append(line)
        self.lines[line.uniqueid] = line
        self.tell(ev.Newchannel, line)

    def call_in(self, device: str, number: str, exten: str) -> Line:
        return self.line(device, number, exten=exten, state=ev.RING)

    def local(self, number: str, context: str, of: Line) -> tuple[Line, Line]:
        """The two halves of a Local channel."""
        pair = f"Local/{number}@{context}-{self._count:08x}"
        halves = []
        for half, state in ((1, ev.DOWN), (2, ev.RING)):
            self._count += 1
            uniqueid = f"{int(self.now)}.{self._count}"
            line = Line(f"{pair};{half}", uniqueid, of.linkedid, state, "", number, of.family, is_phone=False)
            line.started_at = self.now
            self._born(line)
            halves.append(line)
        one, two = halves
        one.other_half, two.other_half = two, one
        self.tell(ev.LocalBridge, one, two)
        return one, two

    def run(self, line: Line, application: str, data: str = "") -> None:
        line.application = application
        self.tell(ev.Newexten, line, application, data)

    def set_state(self, line: Line, state: int) -> None:
        if line.state != state:
            line.state = state
            self.tell(ev.Newstate, line)

    def unite(self, one: Line, other: Line) -> None:
        """Their calls are one from now on; Asterisk gives the younger ones the oldest linkedid, silently."""
        kept, gone = one.family, other.family
        if gone is kept:
            return
        if gone.client is not None and kept.client is None:
            kept, gone = gone, kept
        for line in gone.lines:
            line.family = kept
        kept.lines += gone.lines
        kept.talked = gone.talked | kept.talked
        self.families.remove(gone)
        oldest = min((line.linkedid for line in kept.lines), key=_birth)
        for line in kept.lines:
            if line.live:
                line.linkedid = oldest

    # Dialling

    def dial(self, source: Line, device: str, number: str, *, through: str = "") -> Attempt:
        """`source` rings a phone, with `through` (a context) by a Local channel."""
        hops: list[tuple[Line, Line]] = []
        if through:
            one, two = self.local(number, through, source)
            self.tell(ev.DialBegin, source, one, f"{number}@{through}")
            hops.append((source, one))
            source = two
        self.run(source, "Dial", device)
        phone = self.line(device, number, of=source, state=ev.DOWN)
        phone.application = "AppDial"
        self.tell(ev.DialBegin, source, phone, f"{number}@{device.partition('/')[2]}")
        hops.append((source, phone))
        return Attempt(phone, hops)

    def ring(self, attempt: Attempt) -> None:
        self.set_state(attempt.phone, ev.RINGING)
        for source, dest in reversed(attempt.hops):
            self.set_state(dest, ev.RINGING)
            self.tell(ev.DialState, source, dest, "RINGING")

    def answer(self, attempt: Attempt) -> list[Table]:
        """The phone is lifted: each hop gets a bridge of its own."""
        tables = []
        for source, dest in reversed(attempt.hops):
            self.set_state(dest, ev.UP)
            self.tell(ev.DialEnd, source, dest, "ANSWER", "")
            self.then()
            self.set_state(source, ev.UP)
            self.then()
        for source, dest in attempt.hops:
            tables.append(self.bridge(dest, source))
        return tables

    def fail(self, attempt: Attempt, status: str, cause: int, forward: str = "") -> None:
        """The attempt ends without an answer."""
        for source, dest in reversed(attempt.hops):
            self.tell(ev.DialEnd, source, dest, status, forward if dest is attempt.phone else "")
            self.hang_up(dest, cause)
            self.then()

    def optimise(self, attempt: Attempt, tables: list[Table]) -> None:
        """The Local pair in between vanishes: the phone takes the near half's place."""
        (caller, one), (two, phone) = attempt.hops
        self.tell(ev.LocalOptimizationBegin, one, two, caller)
        self.leave(phone)
        self.enter(tables[0], phone, swap=one)
        self.tell(ev.LocalOptimizationEnd, one, two)
        self.then()
        self.hang_up(one, 16)

    # Bridges

    def table(self, kind: str = "basic", technology: str = "simple_bridge") -> Table:
        self._count += 1
        table = Table(f"{int(self.now)}-{self._count}", kind, technology)
        self.tables[table.id] = table
        self.tell(ev.BridgeCreate, table)
        return table

    def bridge(self, *lines: Line) -> Table:
        """The lines enter a new bridge, in any order."""
        table = self.table()
        for line in self.random.sample(lines, len(lines)):
            self.enter(table, line)
        return table

    def enter(self, table: Table, line: Line, *, swap: Line | None = None) -> None:
        if swap is not None:
            self.leave(swap)
        late = self.random.random() < 0.5
        shown = line.shown
        for other in table.lines if table.technology != "holding_bridge" else []:
            self.unite(line, other)
        line.room = table
        table.lines.append(line)
        self.tell(ev.BridgeEnter, table, shown if late else line, swap.uniqueid if swap else "")

    def leave(self, line: Line) -> None:
        if table := line.room:
            table.lines.remove(line)
            line.room = None
            self.tell(ev.BridgeLeave, table, line)

    def clear_tables(self) -> None:
        for table in [table for table in self.tables.values() if not table.lines]:
            del self.tables[table.id]
            self.tell(ev.BridgeDestroy, table)

    # The end

    def hang_up(self, line: Line, cause: int = 16) -> None:
        """Asterisk ends the channel, and of a Local channel both halves."""
        if not line.live:
            return
        line.live = False
        self.leave(line)
        self.tell(ev.Hangup, line, cause)
        del self.lines[line.uniqueid]
        if line.other_half is not None:
            if line.other_half.live:
                self.tell(ev.HangupRequest, line.other_half, cause, False)  # noqa: FBT003 -- the event's own field
            self.hang_up(line.other_half, cause)
        if not any(one.live for one in line.family.lines):
            line.family.silent_at = self.now

    def give_up(self, line: Line, attempts: Iterable[Attempt] = ()) -> None:
        """The far end of `line` hangs up; what rings for it is cancelled."""
        self.tell(ev.HangupRequest, line, 16, False)  # noqa: FBT003 -- the event's own field
        self.then()
        for attempt in attempts:
            self.cancel(attempt)
        self.hang_up(line)

    def cancel(self, attempt: Attempt) -> None:
        """Asterisk stops ringing a phone: the word travels from the caller to it."""
        for source, dest in attempt.hops:
            self.tell(ev.DialEnd, source, dest, "CANCEL", "")
            self.then()
        for _, dest in reversed(attempt.hops):
            self.hang_up(dest, 26)

    def part(self, first: Line) -> None:
        """`first` hangs up, and with it all that it talks with, through Local channels."""
        phones = self.audible_from(first.room) if first.room else []
        beyond = [line for line in first.room.lines if not line.is_phone] if first.room else []
        self.tell(ev.HangupRequest, first, 16, False)  # noqa: FBT003 -- the event's own field
        self.then()
        for line in self.random.sample([first, *beyond], 1 + len(beyond)):
            self.hang_up(line)
        for line in phones:
            self.hang_up(line)


def _birth(uniqueid: str) -> tuple[int, int]:
    seconds, _, count = uniqueid.partition(".")
    return int(seconds), int(count)


def subjects(event: ev.Event) -> frozenset[str]:
    """The channels and bridges an event is about."""
    found = {event.uniqueid} if isinstance(event, ev.VarSet | ev.Rename) else set()
    for value in event[1:]:
        if isinstance(value, ev.Channel):
            found.add(value.uniqueid)
        elif isinstance(value, ev.Bridge):
            found.add(value.id)
    return frozenset(found)


def reordered(told: list[tuple[int, ev.Event]], random: Random) -> Iterator[ev.Event]:
    """The same events; where Asterisk gives no order, in any."""
    for group in _steps(told):
        left = [(event, subjects(event)) for event in group]
        while left:
            free = [
                number
                for number, (_, mine) in enumerate(left)
                if not any(mine & earlier for _, earlier in left[:number])
            ]
            yield left.pop(random.choice(free))[0]


def _steps(told: list[tuple[int, ev.Event]]) -> Iterator[list[ev.Event]]:
    cuts = [0, *(number for number, ((one, _), (two, _)) in enumerate(pairwise(told), 1) if one != two), len(told)]
    for begin, end in pairwise(cuts):
        yield [event for _, event in told[begin:end]]
