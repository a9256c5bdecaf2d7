"""From a frame to the event it tells of: one table, event name to builder.

Nothing here raises, whatever a caller's name holds. Where Asterisk escapes as C does (names of people, values of
variables), the text is given back as it was; variables lose the underscores that make them inherited.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, FiniteFloat, ValidationError

from itgrix_kommo.ami.headers import BridgeBlock, ChannelBlock, integer, text_of, unescape, value_of
from itgrix_kommo.calls import events as ev

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Build = Callable[[float, str], ev.Event | None]

BODY_PART: Final = 32_768
"""Bytes of one header in a frame of our own, well within what the codec takes for a line."""


def decode(frame: bytes, at: float) -> ev.Event | None:
    """The event in `frame` (one message, as the codec gives it) that arrived `at` Unix seconds; None: not for us."""
    end = frame.find(b"\r\n")
    build = _BUILDERS.get(frame if end < 0 else frame[:end])
    return None if build is None else build(at, text_of(frame))


_PLAIN = ChannelBlock()
_DEST = ChannelBlock("Dest")
_ONE = ChannelBlock("LocalOne")
_TWO = ChannelBlock("LocalTwo")
_SOURCE = ChannelBlock("Source")
_TRANSFERER = ChannelBlock("Transferer")
_ORIG_TRANSFERER = ChannelBlock("OrigTransferer")
_SECOND_TRANSFERER = ChannelBlock("SecondTransferer")
_TRANSFEREE = ChannelBlock("Transferee")
_TRANSFER_TARGET = ChannelBlock("TransferTarget")
_TARGET = ChannelBlock("Target")
_PARKEE = ChannelBlock("Parkee")
_RETRIEVER = ChannelBlock("Retriever")
_BRIDGE = BridgeBlock()
_TO_BRIDGE = BridgeBlock("To")
_FROM_BRIDGE = BridgeBlock("From")


def shown_channel(frame: bytes) -> ev.Channel:
    """The channel that a message of any name shows under the plain header names."""
    return _PLAIN.read(text_of(frame))


def shown_bridge(frame: bytes) -> ev.Bridge:
    """The bridge that a message of any name shows under the plain header names."""
    return _BRIDGE.read(text_of(frame))


def _of_channel(event: Callable[[float, ev.Channel], ev.Event]) -> Build:
    return lambda at, text: event(at, _PLAIN.read(text))


def _of_bridge(event: Callable[[float, ev.Bridge], ev.Event]) -> Build:
    return lambda at, text: event(at, _BRIDGE.read(text))


def _newexten(at: float, text: str) -> ev.Event:
    return ev.Newexten(at, _PLAIN.read(text), value_of(text, "Application"), value_of(text, "AppData"))


def _rename(at: float, text: str) -> ev.Event:
    return ev.Rename(at, value_of(text, "Uniqueid"), value_of(text, "Newname"))


def _hangup_request(*, soft: bool) -> Build:
    return lambda at, text: ev.HangupRequest(at, _PLAIN.read(text), integer(value_of(text, "Cause")), soft)


def _hangup(at: float, text: str) -> ev.Event:
    return ev.Hangup(at, _PLAIN.read(text), integer(value_of(text, "Cause")))


def _dial_begin(at: float, text: str) -> ev.Event:
    return ev.DialBegin(at, _PLAIN.read_if_any(text), _DEST.read(text), value_of(text, "DialString"))


def _dial_state(at: float, text: str) -> ev.Event:
    return ev.DialState(at, _PLAIN.read_if_any(text), _DEST.read(text), value_of(text, "DialStatus"))


def _dial_end(at: float, text: str) -> ev.Event:
    status, forward = value_of(text, "DialStatus"), value_of(text, "Forward")
    return ev.DialEnd(at, _PLAIN.read_if_any(text), _DEST.read(text), status, forward)


def _bridge_enter(at: float, text: str) -> ev.Event:
    return ev.BridgeEnter(at, _BRIDGE.read(text), _PLAIN.read(text), value_of(text, "SwapUniqueid"))


def _bridge_leave(at: float, text: str) -> ev.Event:
    return ev.BridgeLeave(at, _BRIDGE.read(text), _PLAIN.read(text))


def _bridge_merge(at: float, text: str) -> ev.Event:
    return ev.BridgeMerge(at, _TO_BRIDGE.read(text), _FROM_BRIDGE.read(text))


def _local_bridge(at: float, text: str) -> ev.Event:
    return ev.LocalBridge(at, _ONE.read(text), _TWO.read(text))


def _optimization_begin(at: float, text: str) -> ev.Event:
    return ev.LocalOptimizationBegin(at, _ONE.read(text), _TWO.read(text), _SOURCE.read_if_any(text))


def _optimization_end(at: float, text: str) -> ev.Event:
    return ev.LocalOptimizationEnd(at, _ONE.read(text), _TWO.read(text))


def _blind_transfer(at: float, text: str) -> ev.Event:
    return ev.BlindTransfer(
        at,
        value_of(text, "Result"),
        _TRANSFERER.read(text),
        _TRANSFEREE.read_if_any(text),
        value_of(text, "Context"),
        value_of(text, "Extension"),
    )


def _attended_transfer(at: float, text: str) -> ev.Event:
    return ev.AttendedTransfer(
        at,
        value_of(text, "Result"),
        _ORIG_TRANSFERER.read(text),
        _SECOND_TRANSFERER.read(text),
        _TRANSFEREE.read_if_any(text),
        _TRANSFER_TARGET.read_if_any(text),
        value_of(text, "DestType"),
    )


def _pickup(at: float, text: str) -> ev.Event:
    return ev.Pickup(at, _PLAIN.read(text), _TARGET.read(text))


def _parking(kind: Literal["parked", "unparked", "timeout", "giveup"]) -> Build:
    return lambda at, text: ev.Parking(at, kind, _PARKEE.read(text), _RETRIEVER.read_if_any(text))


def _hold(*, on: bool) -> Build:
    return lambda at, text: ev.Hold(at, _PLAIN.read(text), on)


def _varset(at: float, text: str) -> ev.Event:
    # A global variable belongs to no channel: Asterisk says "none".
    uniqueid = value_of(text, "Uniqueid")
    return ev.VarSet(
        at,
        "" if uniqueid == "none" else uniqueid,
        value_of(text, "Variable").lstrip("_"),
        unescape(value_of(text, "Value")),
    )


def _queue_caller(kind: Literal["join", "leave", "abandon"]) -> Build:
    return lambda at, text: ev.QueueCaller(at, kind, _PLAIN.read(text), value_of(text, "Queue"))


def _cel(at: float, text: str) -> ev.Event | None:
    if value_of(text, "EventName") != "LINKEDID_END":
        return None
    return ev.LinkedidEnd(at, value_of(text, "LinkedID"))


def _originate_response(at: float, text: str) -> ev.Event:
    # Where nothing was reached, Asterisk writes "<null>" or repeats the device without a number of its own.
    uniqueid = value_of(text, "Uniqueid")
    return ev.OriginateResponse(
        at,
        value_of(text, "Response") == "Success",
        "" if uniqueid == "<null>" else uniqueid,
        value_of(text, "Channel"),
        integer(value_of(text, "Reason")),
        value_of(text, "ActionID"),
    )


def encode_resync(resync: ev.Resync) -> bytes:
    """`resync` as a frame that `decode` reads back: what a journal or trace stores of it."""
    body = {
        "asked_at": resync.asked_at,
        "blind_since": resync.blind_since,
        "channels": [[list(live.channel), *live[1:]] for live in resync.channels],
        "bridges": [list(each) for each in resync.bridges],
    }
    return _own_frame("ItgrixResync", body)


def encode_endpoints(endpoints: ev.Endpoints) -> bytes:
    """`endpoints` as a frame that `decode` reads back."""
    return _own_frame("ItgrixEndpoints", {"names": sorted(endpoints.names)})


def _own_frame(name: str, body: Mapping[str, object]) -> bytes:
    # ASCII JSON holds neither line breaks nor control characters; it is cut only to keep to the length of a header.
    text = json.dumps(body)
    parts = (text[begin : begin + BODY_PART] for begin in range(0, len(text), BODY_PART))
    return "\r\n".join([f"Event: {name}", *(f"Body: {part}" for part in parts)]).encode()


def _body(text: str) -> dict[str, Any]:
    try:
        body = json.loads("".join(line.partition(": ")[2] for line in text.split("\r\n")[1:]))
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


class _Look(BaseModel):
    """The body of a Resync, as a damaged journal must not change it."""

    asked_at: FiniteFloat
    blind_since: FiniteFloat | None
    channels: tuple[ev.LiveChannel, ...]
    bridges: tuple[ev.Bridge, ...]


def _resync(at: float, text: str) -> ev.Event | None:
    try:
        look = _Look.model_validate(_body(text))
    except ValidationError:
        return None
    return ev.Resync(at, look.asked_at, look.channels, look.bridges, look.blind_since)


def _endpoints(at: float, text: str) -> ev.Event | None:
    names = _body(text).get("names")
    if not isinstance(names, list):
        return None
    return ev.Endpoints(at, frozenset(_strings(names)))


def _strings(values: Iterable[object]) -> Iterable[str]:
    return (value for value in values if isinstance(value, str))


_BUILDERS: dict[bytes, Build] = {
    b"Event: Newchannel": _of_channel(ev.Newchannel),
    b"Event: Newstate": _of_channel(ev.Newstate),
    b"Event: NewCallerid": _of_channel(ev.NewCallerid),
    b"Event: Newexten": _newexten,
    b"Event: Rename": _rename,
    b"Event: HangupRequest": _hangup_request(soft=False),
    b"Event: SoftHangupRequest": _hangup_request(soft=True),
    b"Event: Hangup": _hangup,
    b"Event: DialBegin": _dial_begin,
    b"Event: DialState": _dial_state,
    b"Event: DialEnd": _dial_end,
    b"Event: BridgeCreate": _of_bridge(ev.BridgeCreate),
    b"Event: BridgeEnter": _bridge_enter,
    b"Event: BridgeLeave": _bridge_leave,
    b"Event: BridgeDestroy": _of_bridge(ev.BridgeDestroy),
    b"Event: BridgeMerge": _bridge_merge,
    b"Event: LocalBridge": _local_bridge,
    b"Event: LocalOptimizationBegin": _optimization_begin,
    b"Event: LocalOptimizationEnd": _optimization_end,
    b"Event: BlindTransfer": _blind_transfer,
    b"Event: AttendedTransfer": _attended_transfer,
    b"Event: Pickup": _pickup,
    b"Event: ParkedCall": _parking("parked"),
    b"Event: UnParkedCall": _parking("unparked"),
    b"Event: ParkedCallTimeOut": _parking("timeout"),
    b"Event: ParkedCallGiveUp": _parking("giveup"),
    b"Event: Hold": _hold(on=True),
    b"Event: Unhold": _hold(on=False),
    b"Event: VarSet": _varset,
    b"Event: QueueCallerJoin": _queue_caller("join"),
    b"Event: QueueCallerLeave": _queue_caller("leave"),
    b"Event: QueueCallerAbandon": _queue_caller("abandon"),
    b"Event: CEL": _cel,
    b"Event: OriginateResponse": _originate_response,
    b"Event: ItgrixResync": _resync,
    b"Event: ItgrixEndpoints": _endpoints,
}
