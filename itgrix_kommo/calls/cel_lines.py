"""What all CEL rows of a call together say of its channels: how each came to be, who dialled it, who hung up first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.numbers import device_name, endpoint_of

SAME_END = 1.0
"""Seconds within which a hangup's rows follow each other: the legs that ringing stops for stand before the caller's."""

ENDS = frozenset({"HANGUP", "CHAN_END"})
_OF_THE_END = ENDS | {"BRIDGE_EXIT", "STREAM_END", "LINKEDID_END"}

_RUNG_BY = {"AppDial": "Dial", "AppQueue": "Queue"}
"""What a leg that the PBX rang is said to run, and what his caller runs meanwhile."""

_ORIGINATED = "AppDial2"
_REFUSALS = frozenset({"Busy", "Congestion"})
"""What the dialplan plays to a caller whom it can't help: he who then hangs up has not given up."""


class CelRow(NamedTuple):
    """A row of the CEL table. `at` is Unix seconds; `peers` are channel names; `extra` is None without its column."""

    at: float
    event: str
    uniqueid: str
    linkedid: str
    channel: str
    caller_number: str
    caller_name: str
    context: str
    exten: str
    application: str
    app_data: str
    peers: tuple[str, ...]
    extra: Mapping[str, Any] | None

    def told(self, key: str) -> str:
        """A word of `extra`; empty where it says nothing, or ``N/A``."""
        if not self.extra:
            return ""
        value = str(self.extra.get(key, ""))
        return "" if value == "N/A" else value


class CdrRow(NamedTuple):
    """A row of the CDR table: `uniqueid` dialled `dest_channel` (empty where nobody), running `application` last."""

    uniqueid: str
    dest_channel: str
    application: str
    app_data: str
    did: str
    recording: str


class Line:
    """One channel: what all of its rows together say of it, and how far the telling of them has come."""

    __slots__ = (
        "answers", "application", "bridge_id", "called_in", "dialled", "dials", "ended", "first", "is_parked", "is_up",
        "rung_as", "start",
    )  # fmt: skip

    def __init__(self, start: int, first: CelRow) -> None:
        self.start = start
        self.first = first
        self.rung_as = ""
        self.answers = False
        self.dials: list[tuple[int, str]] = []
        self.called_in = False
        self.dialled: Dial | None = None
        self.is_up = False
        self.is_parked = False
        self.ended = False
        self.bridge_id = ""
        self.application = ""

    @property
    def name(self) -> str:
        return self.first.channel

    @property
    def is_far_half(self) -> bool:
        """The half of a Local channel that runs the dialplan."""
        return self.name.startswith("Local/") and self.name.endswith(";2")

    @property
    def was_originated(self) -> bool:
        return self.rung_as == _ORIGINATED and not self.called_in

    @property
    def state(self) -> int:
        if self.is_up:
            return ev.UP
        return ev.RING if self.called_in else ev.DOWN


class Dial(NamedTuple):
    """`source` rang a channel; None where nobody did: click-to-call."""

    source: Line | None
    application: str
    app_data: str
    dial_string: str


class Forward(NamedTuple):
    """A `phone` sent the call on to `local`, the Local channel that took its place."""

    phone: Line
    local: Line | None


class Lines:
    """`gives_up`: before which row a channel's far end hung up. `forwards`: which row tells of a phone sending on."""

    def __init__(self, rows: Sequence[CelRow], records: Sequence[CdrRow]) -> None:
        self.by_id: dict[str, Line] = {}
        self.by_name: dict[str, Line] = {}
        self.records: dict[str, list[CdrRow]] = {}
        for record in records:
            self.records.setdefault(record.uniqueid, []).append(record)
        for index, row in enumerate(rows):
            self._note(index, row)
        for line in self.by_id.values():
            own = line.first.uniqueid == line.first.linkedid
            line.called_in = line.is_far_half or (own and line.rung_as != _ORIGINATED)
        for line in self.by_id.values():
            line.dialled = self._dial_of(line, records)
        self.gives_up = dict(self._hangups(rows))
        self.forwards = dict(self._forwards(rows))

    def _note(self, index: int, row: CelRow) -> None:
        line = self.by_id.get(row.uniqueid)
        if line is None:
            line = self.by_id[row.uniqueid] = self.by_name[row.channel] = Line(index, row)
        if row.application in _RUNG_BY or row.application == _ORIGINATED:
            line.rung_as = line.rung_as or row.application
        elif row.application == "Dial" and (not line.dials or line.dials[-1][1] != row.app_data):
            line.dials.append((index, row.app_data))
        line.answers = line.answers or row.event == "ANSWER"

    def _dial_of(self, line: Line, records: Sequence[CdrRow]) -> Dial | None:
        if line.was_originated:
            return Dial(None, "", "", "")
        if line.called_in or line.rung_as not in _RUNG_BY:
            return None
        for record in records:
            caller = self.by_id.get(record.uniqueid)
            if caller is None or record.dest_channel != line.name or record.application.startswith("App"):
                continue
            if caller.start < line.start and caller.first.linkedid == line.first.linkedid:
                sent = dial_string(record.app_data, line.name)
                return Dial(caller, record.application, record.app_data, sent)
        source = self._likely_source(line)
        if source is None:
            return None
        candidates = (dial_string(app_data, line.name) for index, app_data in source.dials if index > line.start)
        return Dial(source, _RUNG_BY[line.rung_as], "", next(filter(None, candidates), ""))

    def _likely_source(self, line: Line) -> Line | None:
        """Without a call record: the plumbing that looked for this number, that has rung nobody yet, or the caller."""
        before = [
            one
            for one in self.by_id.values()
            if (one.called_in or one.was_originated)
            and one.start < line.start
            and one.first.linkedid == line.first.linkedid
        ]
        callers = [one for one in before if not one.is_far_half]
        if line.name.startswith("Local/"):
            return next(iter(callers), None)
        wanted = device_name(endpoint_of(line.name))
        halves = [one for one in before if one.is_far_half]
        asked = [one for one in halves if one.first.exten == wanted]
        busy = {id(one.dialled.source) for one in self.by_id.values() if one.dialled}
        free = [one for one in halves if id(one) not in busy]
        return next(iter(asked or free or callers), None)

    def _hangups(self, rows: Sequence[CelRow]) -> Iterator[tuple[int, Line]]:
        for index, row in enumerate(rows):
            if row.event != "HANGUP" or row.told("hangupsource") != row.channel:
                continue
            line = self.by_id[row.uniqueid]
            if not line.answers and not line.called_in:
                continue  # a phone that was rung and refused has not hung up
            if any(record.application in _REFUSALS for record in self.records.get(row.uniqueid, ())[-1:]):
                continue
            begin = index
            # Only who left a ringing phone ended the ringing: those legs' ends stand before his own.
            if row.told("dialstatus") in {"", "CANCEL"}:
                begin = self._first_of_the_end(rows, index)
            yield begin, line

    @staticmethod
    def _first_of_the_end(rows: Sequence[CelRow], index: int) -> int:
        """Where the rows begin that tell of the same end as the hangup at `index`."""
        row, begin = rows[index], index
        for place in range(index - 1, -1, -1):
            before = rows[place]
            if row.at - before.at > SAME_END:
                break
            if before.linkedid != row.linkedid:
                continue
            by_itself = before.event == "HANGUP" and before.told("hangupsource") == before.channel
            if by_itself or before.event not in _OF_THE_END:
                break
            begin = place
        return begin

    def _forwards(self, rows: Sequence[CelRow]) -> Iterator[tuple[int, Forward]]:
        for index, row in enumerate(rows):
            if row.event != "FORWARD":
                continue
            by = self.by_id[row.uniqueid]
            wanted = row.told("forward").partition("@")[0].rpartition("/")[2]
            rung = [one for one in self.by_id.values() if one.dialled and one.dialled.source is by]
            local = [one for one in rung if one.name.startswith("Local/") and one.first.exten == wanted]
            for later in rows[index:]:
                phone = self.by_id[later.uniqueid]
                if later.event == "HANGUP" and phone in rung and later.told("hangupsource") == later.channel:
                    yield index, Forward(phone, local[-1] if local else None)
                    break


def dial_string(app_data: str, channel: str) -> str:
    """The part of Dial's argument that rang this channel: ``PJSIP/101&PJSIP/7999…@trunk,20,tT`` → ``7999…@trunk``."""
    endpoint = device_name(endpoint_of(channel))
    for resource in app_data.partition(",")[0].split("&"):
        technology, _, rest = resource.partition("/")
        device = rest.rpartition("@")[2] if "@" in rest else rest.partition("/")[0]
        if channel.startswith(f"{technology}/") and device == endpoint:
            return rest
    return ""
