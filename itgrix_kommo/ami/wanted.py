"""Which of Asterisk's events the tracker hears: said once, used on both ends of the wire.

Asterisk is asked to send nothing else (`server_filters`), and where it may not be asked, `sieve` drops the rest on
bytes, before anything is decoded: on a busy PBX four events of five are variables and dialplan steps nobody needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

EVENTS = frozenset({
    "Newchannel", "Newstate", "NewCallerid", "Rename", "HangupRequest", "SoftHangupRequest", "Hangup",
    "DialBegin", "DialState", "DialEnd",
    "BridgeCreate", "BridgeEnter", "BridgeLeave", "BridgeDestroy", "BridgeMerge",
    "LocalBridge", "LocalOptimizationBegin", "LocalOptimizationEnd",
    "BlindTransfer", "AttendedTransfer", "Pickup",
    "ParkedCall", "UnParkedCall", "ParkedCallTimeOut", "ParkedCallGiveUp",
    "Hold", "Unhold",
    "QueueCallerJoin", "QueueCallerLeave", "QueueCallerAbandon",
    "OriginateResponse",
})  # fmt: skip
"""Heard whatever they say. VarSet, Newexten and CEL are heard for some of what they say only, see below."""

LIFE_EVENTS = frozenset({"FullyBooted", "Shutdown"})
"""Of Asterisk itself: for the link, not for the tracker."""

OWN_EVENTS = frozenset({"ItgrixResync", "ItgrixEndpoints"})
"""Written by the link into journals and traces; Asterisk has no such events."""

VARIABLES = frozenset({"DIALSTATUS", "VMSTATUS", "MIXMONITOR_FILENAME", "AMPUSER", "FROM_DID"})
"""Heard also with the one or two leading underscores that make a variable inherited."""

VARIABLE_PREFIX = "ITGRIX_"
"""Our own variables: an Originate sets one, and the channel that carries it is the call that was asked for."""

APPLICATIONS = frozenset({
    "Dial", "RetryDial", "FollowMe", "Queue",
    "BackGround", "BackgroundDetect", "SpeechBackground", "WaitExten", "Read", "ReadExten", "Directory", "DISA",
    "VoiceMail", "MinivmRecord",
    "ConfBridge", "MeetMe",
})  # fmt: skip
"""Those that tell where a caller is: rung through, in a queue or menu, in a mailbox."""

EVENT_MASK = "system,call,dialplan,agent,cel"
"""The classes of AMI that the events above belong to."""

MAX_FILTER = 900
"""Bytes of one filter: Asterisk reads action lines of up to 1024."""

_EVENT_LINE = len("Event: ")
_LONGEST_LINE = 64
_VARIABLES = frozenset(name.encode() for name in VARIABLES)
_VARIABLE_PREFIX = VARIABLE_PREFIX.encode()
_APPLICATIONS = frozenset(name.encode() for name in APPLICATIONS)


def _header(frame: bytes, mark: bytes) -> bytes:
    """The value that follows `mark`, empty where there is none."""
    begin = frame.find(mark)
    if begin < 0:
        return b""
    begin += len(mark)
    end = frame.find(b"\r\n", begin)
    return frame[begin:] if end < 0 else frame[begin:end]


def _wanted_variable(frame: bytes) -> bool:
    name = _header(frame, b"\r\nVariable: ").lstrip(b"_")
    return name in _VARIABLES or name.startswith(_VARIABLE_PREFIX)


def _wanted_step(frame: bytes) -> bool:
    return _header(frame, b"\r\nApplication: ") in _APPLICATIONS


def _wanted_cel(frame: bytes) -> bool:
    return b"\r\nEventName: LINKEDID_END\r\n" in frame + b"\r\n"


def _answers_us(frame: bytes) -> bool:
    # Lists come as events with names of their own; what ties them to our action is its id.
    return frame.startswith(b"Response:") or b"\r\nActionID: " in frame


_RULES: dict[bytes, Callable[[bytes], bool] | None] = {
    **dict.fromkeys(b"Event: " + name.encode() for name in EVENTS | LIFE_EVENTS | OWN_EVENTS),
    b"Event: VarSet": _wanted_variable,
    b"Event: Newexten": _wanted_step,
    b"Event: CEL": _wanted_cel,
}


def sieve(frames: Iterable[bytes]) -> list[bytes]:
    """The frames that somebody here may want, in their order: wanted events, and all that answers an action."""
    rule_of = _RULES.get
    kept: list[bytes] = []
    for frame in frames:
        end = frame.find(b"\r\n", _EVENT_LINE, _LONGEST_LINE)
        rule = rule_of(frame if end < 0 else frame[:end], _answers_us)
        if rule is None or rule(frame):
            kept.append(frame)
    return kept


def server_filters() -> list[str]:
    """POSIX regular expressions (of `Action: Filter`, since Asterisk 10), each short enough for one action line.

    An event is sent if any of them matches it; Asterisk matches them against the whole event, from its first header on.
    """
    return [
        _any_of("^Event: ", EVENTS | LIFE_EVENTS),
        _any_of("^Event: VarSet[[:space:]].*Variable: _?_?", VARIABLES | {f"{VARIABLE_PREFIX}[A-Z_]+"}),
        _any_of("^Event: Newexten[[:space:]].*Application: ", APPLICATIONS),
        "^Event: CEL[[:space:]].*EventName: LINKEDID_END[[:space:]]",
    ]


def _any_of(before: str, names: frozenset[str]) -> str:
    return f"{before}({'|'.join(sorted(names))})[[:space:]]"
