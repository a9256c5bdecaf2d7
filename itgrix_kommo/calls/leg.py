"""A leg: what the tracker remembers of one channel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from itgrix_kommo.calls.events import DOWN, UP, Channel
from itgrix_kommo.calls.numbers import endpoint_of, is_number

if TYPE_CHECKING:
    from itgrix_kommo.calls.live import LiveCall
    from itgrix_kommo.calls.rooms import Room

_PLUMBING = frozenset(
    {"Local", "CBAnn", "CBRec", "Announcer", "Recorder", "Surrogate", "AsyncGoto", "Message", "Snoop", "Parked"}
)
"""Channel technologies with nobody at the far end."""


class Place(Enum):
    """Where the dialplan has put a channel: decides what a caller who gives up has given up on."""

    DIALPLAN = "the dialplan"
    MENU = "a menu"
    RINGING = "ringing a phone"
    QUEUE = "a queue"
    VOICEMAIL = "voicemail"
    CONFERENCE = "a conference"


PLACE_OF_APPLICATION = {
    "background": Place.MENU,
    "backgrounddetect": Place.MENU,
    "speechbackground": Place.MENU,
    "waitexten": Place.MENU,
    "read": Place.MENU,
    "readexten": Place.MENU,
    "directory": Place.MENU,
    "disa": Place.MENU,
    "dial": Place.RINGING,
    "retrydial": Place.RINGING,
    "followme": Place.RINGING,
    "queue": Place.QUEUE,
    "voicemail": Place.VOICEMAIL,
    "minivmrecord": Place.VOICEMAIL,
    "confbridge": Place.CONFERENCE,
    "meetme": Place.CONFERENCE,
}
"""Applications that are not named here (Playback, Set, Gosub …) leave the caller where he was."""


class Origin(Enum):
    """How a channel came to be."""

    CALLED_IN = "it called the PBX"
    DIALLED = "the PBX rang it for a caller"
    ORIGINATED = "the PBX rang it for nobody: click-to-call, or a callback"


@dataclass(slots=True, eq=False)
class Talk:
    """From the first to the last moment in which the leg was connected to its like: `outside` where one of them was no
    employee. `until` is None while it is connected.
    """

    since: float
    until: float | None
    outside: bool


@dataclass(slots=True, eq=False)
class Leg:
    """One channel.

    `shown_number` is the caller's number as it is shown now: another one than `caller_number` where the far end has
    told who it is. `exten` is the first number it dialled: of a client our DID. `redirected_to` is where a transfer
    sent it, `sent_by` the employee's leg that did so, or that forwarded its call there. `extension` is the employee's
    number where only a channel variable tells it. `given_up_on`: the caller hung up while it rang. `visits` are what
    stands for this leg in calls that it takes part in without belonging to them, `stands_for` is such a one's own leg
    (see `rooms`).
    """

    call: LiveCall
    name: str
    uniqueid: str
    linkedid: str
    started_at: float
    heard_at: float
    state: int
    origin: Origin
    endpoint: str
    is_local: bool
    is_phone: bool
    caller_number: str = ""
    shown_number: str = ""
    caller_name: str = ""
    exten: str = ""
    redirected_to: str = ""
    extension: str = ""
    other_half: Leg | None = None
    source: Leg | None = None
    dial_string: str = ""
    dial_status: str = ""
    rung_at: float | None = None
    sent_by: Leg | None = None
    given_up_on: bool = False
    took_over: bool = False
    requested_told: bool = False
    accepted_told: bool = False
    room: Room | None = None
    is_parked: bool = False
    place: Place = Place.DIALPLAN
    left_message: bool = False
    recording: str = ""
    hung_up_at: float | None = None
    ended_at: float | None = None
    cause: int = 0
    talks: list[Talk] = field(default_factory=list)
    visits: list[Leg] = field(default_factory=list)
    stands_for: Leg | None = None

    @classmethod
    def born(cls, call: LiveCall, at: float, channel: Channel) -> Leg:
        """A channel that calls in begins by ringing us; one that Asterisk makes begins down."""
        technology = channel.name.partition("/")[0]
        origin = Origin.CALLED_IN
        if channel.state == DOWN:
            origin = Origin.ORIGINATED if channel.uniqueid == channel.linkedid else Origin.DIALLED
        leg = cls(
            call=call,
            name=channel.name,
            uniqueid=channel.uniqueid,
            linkedid=channel.linkedid,
            started_at=at,
            heard_at=at,
            state=channel.state,
            origin=origin,
            endpoint=endpoint_of(channel.name),
            is_local=technology == "Local",
            is_phone=technology not in _PLUMBING,
        )
        if leg.is_local:
            leg.exten = leg.endpoint[len("Local/") :].partition("@")[0]
        leg.hear(at, channel)
        return leg

    def move_to(self, place: Place) -> None:
        """The dialplan takes the channel elsewhere; what it does after the far end hung up is no news of him."""
        if self.hung_up_at is None:
            self.place = place

    def hear(self, at: float, channel: Channel) -> None:
        """What every event shows of its channel in passing; first words count, for dialplans rewrite later ones."""
        self.heard_at = at
        self.state = channel.state
        if channel.caller_number and channel.caller_number != self.shown_number:
            self.shown_number = channel.caller_number
            self.caller_number = self.caller_number or channel.caller_number
            self.call.changed()
        if not self.caller_name:
            self.caller_name = channel.caller_name
        if not self.exten and is_number(channel.exten):
            self.exten = channel.exten
            self.call.changed()

    @property
    def is_ringing(self) -> bool:
        """Rung, and neither answered nor refused nor gone."""
        return self.ended_at is None and self.hung_up_at is None and not (self.dial_status or self.talks)

    @property
    def live(self) -> bool:
        return self.ended_at is None

    @property
    def is_up(self) -> bool:
        return self.state == UP

    @property
    def talking(self) -> bool:
        return bool(self.talks) and self.talks[-1].until is None

    @property
    def first_talk(self) -> float | None:
        return min((span.since for span in self.talks), default=None)

    def talk(self, *, outside: bool) -> tuple[float, float | None] | None:
        """From the first to the last moment of talk (with the client, if `outside`); holds in between belong to it."""
        since = until = None
        for span in self.talks:
            if span.outside or not outside:
                since = span.since if since is None else min(since, span.since)
                until = span.until
        return None if since is None else (since, until)

    def visitor(self, call: LiveCall, at: float) -> Leg:
        """What stands for this leg in another call: an employee who took part in it."""
        guest = replace(
            self, call=call, started_at=at, origin=Origin.CALLED_IN, source=None, took_over=True, talks=[], visits=[]
        )
        guest.requested_told = guest.accepted_told = guest.is_parked = False
        guest.room, guest.stands_for = None, self
        self.visits.append(guest)
        return guest

    def connect(self, at: float, *, outside: bool) -> bool:
        """Begin to talk, or go on with another kind of party; true at the very first word."""
        for visit in self.visits:
            visit.connect(at, outside=outside)
        first = not self.talks
        if self.talking:
            if self.talks[-1].outside == outside:
                return False
            self.disconnect(at)
        span = next((span for span in self.talks if span.outside == outside), None)
        if span is None:
            span = Talk(at, None, outside)
        else:
            self.talks.remove(span)
            span.until = None
        self.talks.append(span)
        return first

    def disconnect(self, at: float) -> None:
        for visit in self.visits:
            visit.disconnect(at)
        if self.talking:
            # What ended unseen is dated back, but never to before it began.
            self.talks[-1].until = max(at, self.talks[-1].since)

    def askers(self) -> Iterator[Leg]:
        """The legs for whom this one was rung, the nearest first, through Local channels to the one it began with."""
        leg, seen = self, {self.uniqueid}
        while True:
            above = leg.source or (leg.other_half if leg.is_local and leg.name.endswith(";2") else None)
            if above is None or above.uniqueid in seen:
                return
            yield above
            seen.add(above.uniqueid)
            leg = above

    def root(self) -> Leg:
        """The leg for whom this one was rung in the end."""
        last = self
        for asker in self.askers():
            last = asker
        return last
