"""CEL: what the PBX's database remembers of a call, told to the tracker as if it happened now.

The rows of a call become the events that AMI would have sent, so that every rule stays in the tracker. What CEL does
not tell is made out from the rest of the call (`cel_lines`): who dialled whom, who hung up first, where he waited.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Literal

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.call import Call, StageName
from itgrix_kommo.calls.cel_lines import ENDS, CdrRow, CelRow, Forward, Line, Lines
from itgrix_kommo.calls.live_calls import STALE_AFTER
from itgrix_kommo.calls.numbers import NumberPlan
from itgrix_kommo.calls.tracker import Tracker

_UNPARKED: dict[str, Literal["timeout", "giveup"]] = {"ParkedCallTimeOut": "timeout", "ParkedCallGiveUp": "giveup"}
_CONFERENCES = frozenset({"confbridge", "meetme"})


def calls_of(rows: Sequence[CelRow], records: Sequence[CdrRow], plan: NumberPlan) -> list[Call]:
    """The ended calls that these rows tell of, by their beginning; mostly one, in a conference of clients several.

    `rows` are whole calls in their order; a channel whose end is not among them is taken to have ended with its last.
    """
    tracker = Tracker(plan)
    rows = _one_after_another(rows)
    stages = [stage for event in events_of(rows, records) for stage in tracker.feed(event)]
    last = rows[-1].at
    stages += tracker.advance(last + STALE_AFTER)
    stages += tracker.sweep(last + 2 * STALE_AFTER)
    stages += tracker.advance(last + 3 * STALE_AFTER)
    calls = [stage.call for stage in stages if stage.name is StageName.CALL_ENDED]
    return sorted(calls, key=lambda call: call.started_at)


def events_of(rows: Sequence[CelRow], records: Sequence[CdrRow] = ()) -> Iterator[ev.Event]:
    """The events of whole calls, given all their rows in their order and their call records."""
    telling = _Telling(Lines(rows, records))
    for index, row in enumerate(rows):
        yield from telling.of_row(index, row)


def _one_after_another(rows: Sequence[CelRow]) -> list[CelRow]:
    """Where the table knows whole seconds alone, rows of one second keep their order by a microsecond each."""
    spread: list[CelRow] = []
    last = -math.inf
    for row in rows:
        last = max(row.at, last + 1e-6)
        spread.append(row if row.at == last else row._replace(at=last))
    return spread


class _Telling:
    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._bridges = 0

    def of_row(self, index: int, row: CelRow) -> Iterator[ev.Event]:
        line = self._lines.by_id[row.uniqueid]
        if line.ended and row.event in ENDS:
            return
        if row.event == "ANSWER":
            line.is_up = True
        channel = _channel(row, line)
        if index == line.start:
            yield from self._beginning(row, line, channel)
        if row.application and row.application != line.application and row.app_data != "(Outgoing Line)":
            line.application = row.application
            yield ev.Newexten(row.at, channel, row.application, row.app_data)
        if index in self._lines.gives_up:
            yield from self._hangup_request(row.at, self._lines.gives_up[index])
        tell = self._TELLERS.get(row.event)
        if tell is not None:
            yield from tell(self, row, line, channel)
        if index in self._lines.forwards:
            yield from self._forward(row, channel, self._lines.forwards[index])

    def _beginning(self, row: CelRow, line: Line, channel: ev.Channel) -> Iterator[ev.Event]:
        yield ev.Newchannel(row.at, channel)
        other = self._lines.by_name.get(f"{line.name[:-1]}1") if line.is_far_half else None
        if other is not None:
            yield ev.LocalBridge(row.at, _channel(other.first, other), channel)
        for record in self._lines.records.get(row.uniqueid, ()):
            if record.did:
                yield ev.VarSet(row.at, row.uniqueid, "FROM_DID", record.did)
            if record.recording:
                yield ev.VarSet(row.at, row.uniqueid, "MIXMONITOR_FILENAME", record.recording)
        if not any(forward.local is line for forward in self._lines.forwards.values()):
            yield from self._dial_begin(row.at, line)

    def _dial_begin(self, at: float, line: Line) -> Iterator[ev.Event]:
        if line.dialled is None:
            return
        source, application, app_data, dial_string = line.dialled
        asking = _channel(source.first, source) if source else None
        if source is not None and asking is not None and source.application != application:
            source.application = application
            yield ev.Newexten(at, asking, application, app_data)
        yield ev.DialBegin(at, asking, _channel(line.first, line), dial_string)

    def _forward(self, row: CelRow, channel: ev.Channel, forward: Forward) -> Iterator[ev.Event]:
        phone = _channel(forward.phone.first, forward.phone)
        yield ev.DialEnd(row.at, channel, phone, "CANCEL", row.told("forward"))
        if forward.local is not None:
            yield from self._dial_begin(row.at, forward.local)

    def _hangup_request(self, at: float, line: Line) -> Iterator[ev.Event]:
        yield from self._last_place(at, line)
        yield ev.HangupRequest(at, _channel(line.first, line), 0, soft=False)

    def _last_place(self, at: float, line: Line) -> Iterator[ev.Event]:
        """Where he was in the end, only his call record may know."""
        for record in self._lines.records.get(line.first.uniqueid, ())[-1:]:
            yield ev.Newexten(at, _channel(line.first, line), record.application, record.app_data)

    def _answer(self, row: CelRow, _: Line, channel: ev.Channel) -> Iterator[ev.Event]:
        yield ev.Newstate(row.at, channel)

    def _bridge_enter(self, row: CelRow, line: Line, channel: ev.Channel) -> Iterator[ev.Event]:
        bridge_id, technology = row.told("bridge_id"), row.told("bridge_technology")
        conference = row.application.lower() in _CONFERENCES
        if not bridge_id and conference:
            bridge_id, technology = f"{row.application}({row.app_data.partition(',')[0]})", "softmix"
        elif not bridge_id:
            technology = "holding_bridge" if line.is_parked else "simple_bridge"
            bridge_id = self._bridge_by_company(row, line)
        line.bridge_id = bridge_id
        bridge_type = "base" if conference else "basic"
        waits = row.application == "AgentLogin" and technology.startswith("holding")
        bridge = ev.Bridge(bridge_id, bridge_type, technology, "AgentPool" if waits else "")
        yield ev.BridgeEnter(row.at, bridge, channel, "")

    def _bridge_by_company(self, row: CelRow, line: Line) -> str:
        """Without `extra`: the bridge of a peer, of who dialled or was dialled, or of somebody who is alone in his."""
        named = self._lines.by_name
        company = [named[name].bridge_id for name in row.peers if name in named]
        inside: dict[str, list[Line]] = {}
        for one in self._lines.by_id.values():
            if one.bridge_id and one is not line:
                inside.setdefault(one.bridge_id, []).append(one)
        alone = {bridge_id: lines[0] for bridge_id, lines in inside.items() if len(lines) == 1}
        related = [
            bridge_id
            for bridge_id, one in alone.items()
            if (one.dialled and one.dialled.source is line) or (line.dialled and line.dialled.source is one)
        ]
        found = next(filter(None, [*company, *related, *reversed(alone)]), "")
        if not found:
            self._bridges += 1
            found = f"{row.linkedid}-{self._bridges}"
        return found

    def _bridge_exit(self, row: CelRow, line: Line, channel: ev.Channel) -> Iterator[ev.Event]:
        bridge_id = row.told("bridge_id") or line.bridge_id
        line.bridge_id = ""
        yield ev.BridgeLeave(row.at, ev.Bridge(bridge_id, "basic", row.told("bridge_technology"), ""), channel)

    def _hangup(self, row: CelRow, line: Line, channel: ev.Channel) -> Iterator[ev.Event]:
        line.ended = True
        line.bridge_id = ""
        yield from self._last_place(row.at, line)
        if status := row.told("dialstatus"):
            yield ev.VarSet(row.at, row.uniqueid, "DIALSTATUS", status)
        cause = row.told("hangupcause")
        yield ev.Hangup(row.at, channel, int(cause) if cause.isdigit() else 0)

    def _blind_transfer(self, row: CelRow, _: Line, channel: ev.Channel) -> Iterator[ev.Event]:
        sent = self._referred(row, "transferee_channel")
        yield ev.BlindTransfer(row.at, "Success", channel, sent, row.told("context"), row.told("extension"))

    def _attended_transfer(self, row: CelRow, _: Line, channel: ev.Channel) -> Iterator[ev.Event]:
        second = self._referred(row, "channel2")
        if second is not None:
            kind = "App" if row.told("app") else "Bridge"
            sent, target = self._referred(row, "transferee_channel"), self._referred(row, "transfer_target_channel")
            yield ev.AttendedTransfer(row.at, "Success", channel, second, sent, target, kind)

    def _pickup(self, row: CelRow, _: Line, channel: ev.Channel) -> Iterator[ev.Event]:
        picker = self._referred(row, "pickup_channel")
        if picker is not None:
            yield ev.Pickup(row.at, picker, channel)

    def _park_start(self, row: CelRow, line: Line, channel: ev.Channel) -> Iterator[ev.Event]:
        line.is_parked = True
        yield ev.Parking(row.at, "parked", channel, None)

    def _park_end(self, row: CelRow, line: Line, channel: ev.Channel) -> Iterator[ev.Event]:
        line.is_parked = False
        retriever = self._referred(row, "retriever")
        yield ev.Parking(row.at, _UNPARKED.get(row.told("reason"), "unparked"), channel, retriever)

    def _referred(self, row: CelRow, what: str) -> ev.Channel | None:
        """Another channel that `extra` names, by its uniqueid or, on old versions, by its name alone."""
        line = self._lines.by_id.get(row.told(f"{what}_uniqueid"))
        line = line or self._lines.by_name.get(row.told(f"{what}_name") or row.told(what))
        return _channel(line.first, line) if line else None

    _TELLERS: ClassVar[dict[str, Callable[[_Telling, CelRow, Line, ev.Channel], Iterator[ev.Event]]]] = {
        "ANSWER": _answer,
        "BRIDGE_ENTER": _bridge_enter,
        "BRIDGE_EXIT": _bridge_exit,
        "HANGUP": _hangup,
        "CHAN_END": _hangup,
        "BLINDTRANSFER": _blind_transfer,
        "ATTENDEDTRANSFER": _attended_transfer,
        "PICKUP": _pickup,
        "PARK_START": _park_start,
        "PARK_END": _park_end,
    }


def _channel(row: CelRow, line: Line) -> ev.Channel:
    return ev.Channel(
        row.channel,
        row.uniqueid,
        row.linkedid,
        line.state,
        row.caller_number,
        row.caller_name,
        "",
        "",
        row.context,
        row.exten,
    )
