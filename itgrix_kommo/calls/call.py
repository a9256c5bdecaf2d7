"""A call as the rest of the connector sees it: frozen, complete at its stage, free of Asterisk's plumbing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from itgrix_kommo.calls.numbers import Kind
from itgrix_kommo.calls.outcome import Outcome


class CallType(StrEnum):
    LOCAL = "local"
    INCOMING = "incoming"
    OUTGOING = "outgoing"
    UNKNOWN = "unknown"


class State(StrEnum):
    RINGING = "ringing"
    TALKING = "talking"
    ENDED = "ended"
    PROCESSED = "processed"


class StageName(StrEnum):
    """The four moments that customizations know, as they spell them."""

    REQUESTED = "conversation_requested"
    ACCEPTED = "conversation_accepted"
    ENDED = "conversation_ended"
    CALL_ENDED = "call_ended"


class Note(NamedTuple):
    """A line of the call's timeline: what happened or was decided, and why."""

    at: float
    text: str


class Number(NamedTuple):
    number: str
    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class User:
    """An employee as the configuration maps him; his name is Kommo's to tell."""

    id: int
    phones: tuple[str, ...]


class ChannelView(NamedTuple):
    """One channel for `call_full`; times are Unix seconds, None where it never happened."""

    uniqueid: str
    name: str
    is_primary: bool
    type: CallType
    state: State
    from_: Number
    to: Number
    trunk: Number
    started_at: float
    answered_at: float | None
    ended_at: float | None
    extra: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Conversation:
    """One phone rung towards an employee or the client.

    `user` is the employee whose conversation it is: he whose phone rang, or who rang the client.
    `client_talk` is the span of talk with the client (with anybody, in an internal call) the duration is taken from.
    """

    channel: ChannelView
    user: User | None
    is_parked: bool
    client_talk: tuple[float, float | None] | None
    recording: str

    @property
    def id(self) -> str:
        return self.channel.uniqueid

    @property
    def was_answered(self) -> bool:
        return self.channel.answered_at is not None


@dataclass(frozen=True, slots=True)
class Call:
    """`id` is the oldest linkedid; `aliases` are all linkedids and uniqueids the call ever had, `id` among them.

    `client` is raw, as the PBX knew it. `responsible` is the user of the last accepted conversation, or None.
    `rung_last` is the user whose phone rang last. `accepted_id` names the last accepted conversation, or is empty.
    `outcome` is None until the call has ended. `known_from` is set where its beginning was not seen.
    """

    id: str
    aliases: frozenset[str]
    type: CallType
    state: State
    channel: ChannelView
    conversations: tuple[Conversation, ...]
    active_conversation_id: str
    accepted_id: str
    client: Number
    did: str
    trunk: str
    responsible: User | None
    rung_last: User | None
    started_at: float
    ended_at: float | None
    duration: int
    outcome: Outcome | None
    is_ivr: bool
    timeline: tuple[Note, ...]

    @property
    def was_answered(self) -> bool:
        return bool(self.accepted_id)

    def conversation(self, uniqueid: str) -> Conversation | None:
        return next((one for one in self.conversations if one.id == uniqueid), None)


class Stage(NamedTuple):
    """What the tracker hands out. `conversation_id` is empty at ``call_ended``."""

    at: float
    name: StageName
    call: Call
    conversation_id: str
