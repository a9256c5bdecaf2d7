"""What the tracker understands of Asterisk: one type per event, named as AMI names it.

`at` is when the event arrived, in Unix seconds. Absent headers and AMI's ``<unknown>`` are empty strings.
These are NamedTuples, not dataclasses: a busy PBX makes thousands a second, and a tuple is built three times as fast.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

DOWN, RING, RINGING, UP = 0, 4, 5, 6
"""The channel states that matter (AMI's ChannelState); all others are ways of being set up."""


class Channel(NamedTuple):
    """A channel as the event shows it at that moment."""

    name: str
    uniqueid: str
    linkedid: str
    state: int
    caller_number: str
    caller_name: str
    connected_number: str
    connected_name: str
    context: str
    exten: str


class Bridge(NamedTuple):
    """`type` is ``basic``, ``holding`` (parking, a queue's music), ``multimix`` (conference) …"""

    id: str
    type: str
    technology: str
    creator: str


class Newchannel(NamedTuple):
    at: float
    channel: Channel


class Newstate(NamedTuple):
    at: float
    channel: Channel


class NewCallerid(NamedTuple):
    at: float
    channel: Channel


class Newexten(NamedTuple):
    """The channel begins to run a dialplan application."""

    at: float
    channel: Channel
    application: str
    app_data: str


class Rename(NamedTuple):
    at: float
    uniqueid: str
    new_name: str


class HangupRequest(NamedTuple):
    """The far end (`soft` false) or Asterisk itself (`soft` true) wants this channel to end: who gave up first."""

    at: float
    channel: Channel
    cause: int
    soft: bool


class Hangup(NamedTuple):
    """`cause` is Q.850 (0..127)."""

    at: float
    channel: Channel
    cause: int


class DialBegin(NamedTuple):
    """`source` is None where nobody dials: an originated leg."""

    at: float
    source: Channel | None
    dest: Channel
    dial_string: str


class DialState(NamedTuple):
    at: float
    source: Channel | None
    dest: Channel
    status: str


class DialEnd(NamedTuple):
    """`status` is Dial's word (ANSWER, BUSY, NOANSWER, CANCEL …); `forward` where the phone sent the call on."""

    at: float
    source: Channel | None
    dest: Channel
    status: str
    forward: str


class BridgeCreate(NamedTuple):
    at: float
    bridge: Bridge


class BridgeEnter(NamedTuple):
    """`swap_uniqueid` is the channel whose place this one takes, or empty."""

    at: float
    bridge: Bridge
    channel: Channel
    swap_uniqueid: str


class BridgeLeave(NamedTuple):
    at: float
    bridge: Bridge
    channel: Channel


class BridgeDestroy(NamedTuple):
    at: float
    bridge: Bridge


class BridgeMerge(NamedTuple):
    at: float
    to_bridge: Bridge
    from_bridge: Bridge


class LocalBridge(NamedTuple):
    """The two halves ``;1`` and ``;2`` of a Local channel are tied to each other."""

    at: float
    one: Channel
    two: Channel


class LocalOptimizationBegin(NamedTuple):
    """The Local pair is about to vanish; `source` is the channel that takes the place of half `one` or `two`."""

    at: float
    one: Channel
    two: Channel
    source: Channel | None


class LocalOptimizationEnd(NamedTuple):
    at: float
    one: Channel
    two: Channel


class BlindTransfer(NamedTuple):
    at: float
    result: str
    transferer: Channel
    transferee: Channel | None
    context: str
    extension: str


class AttendedTransfer(NamedTuple):
    """`dest_type` is Bridge, App, Link, Threeway or Fail."""

    at: float
    result: str
    orig_transferer: Channel
    second_transferer: Channel
    transferee: Channel | None
    target: Channel | None
    dest_type: str


class Pickup(NamedTuple):
    """`channel` takes the call that rings at `target`."""

    at: float
    channel: Channel
    target: Channel


class Parking(NamedTuple):
    at: float
    kind: Literal["parked", "unparked", "timeout", "giveup"]
    parkee: Channel
    retriever: Channel | None


class Hold(NamedTuple):
    at: float
    channel: Channel
    on: bool


class VarSet(NamedTuple):
    at: float
    uniqueid: str
    variable: str
    value: str


class QueueCaller(NamedTuple):
    at: float
    kind: Literal["join", "leave", "abandon"]
    channel: Channel
    queue: str


class LinkedidEnd(NamedTuple):
    """CEL's word that nothing of this call is left."""

    at: float
    linkedid: str


class OriginateResponse(NamedTuple):
    """`uniqueid` is empty where the first phone was never reached; `action_id` is that of our Originate."""

    at: float
    success: bool
    uniqueid: str
    channel_name: str
    reason: int
    action_id: str = ""


class LiveChannel(NamedTuple):
    """A channel that exists at the moment of asking; `started_at` as far as Asterisk's whole seconds tell."""

    channel: Channel
    application: str
    app_data: str
    bridge_id: str
    started_at: float


class Resync(NamedTuple):
    """What exists in Asterisk. Asked for at `asked_at`, complete at `at`; what happened in between came as events.

    `blind_since`: events were missed from then on; None where none were, as in a periodic look.
    """

    at: float
    asked_at: float
    channels: tuple[LiveChannel, ...]
    bridges: tuple[Bridge, ...]
    blind_since: float | None


class Endpoints(NamedTuple):
    """The devices Asterisk knows, as channel names spell them: ``PJSIP/101``."""

    at: float
    names: frozenset[str]


Event: TypeAlias = (
    Newchannel
    | Newstate
    | NewCallerid
    | Newexten
    | Rename
    | HangupRequest
    | Hangup
    | DialBegin
    | DialState
    | DialEnd
    | BridgeCreate
    | BridgeEnter
    | BridgeLeave
    | BridgeDestroy
    | BridgeMerge
    | LocalBridge
    | LocalOptimizationBegin
    | LocalOptimizationEnd
    | BlindTransfer
    | AttendedTransfer
    | Pickup
    | Parking
    | Hold
    | VarSet
    | QueueCaller
    | LinkedidEnd
    | OriginateResponse
    | Resync
    | Endpoints
)
