"""A call in the making: its legs, and what they are to each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from itgrix_kommo.calls import outcome as outcomes
from itgrix_kommo.calls.call import CallType, Conversation, Note
from itgrix_kommo.calls.leg import Leg, Origin, Place
from itgrix_kommo.calls.numbers import Employee, NumberPlan, device_name, is_number, number_in
from itgrix_kommo.calls.outcome import End, Outcome

MOST_NOTES = 1000
"""Lines of a call's timeline: one that waits in a queue all day has no more, nor an endless play with the hold key."""

LEFT_OUT = "… what happened then is left out …"


class Side(NamedTuple):
    """Who is at a leg's far end. `extension` is the employee's number, empty for anybody else; `owner` is whose
    conversation it is.
    """

    extension: str
    is_internal: bool
    far_number: str
    owner: Employee | None


@dataclass(slots=True, eq=False)
class LiveCall:
    """All channels tied by linkedid, bridge or transfer. `id` is the oldest linkedid, `aliases` all it ever had.

    `of_agent`: an agent's who is logged in. He meets client after client on it: it never becomes one with their calls.
    """

    id: str
    plan: NumberPlan
    started_at: float
    legs: dict[str, Leg] = field(default_factory=dict)
    aliases: set[str] = field(default_factory=set)
    notes: list[Note] = field(default_factory=list)
    live_legs: int = 0
    of_agent: bool = False
    _sides: dict[str, Side] = field(default_factory=dict)
    _client: tuple[Leg | None] | None = None
    past: dict[str, tuple[object, Conversation]] = field(default_factory=dict)

    def note(self, at: float, text: str) -> None:
        self.notes.append(Note(at, text))
        excess = len(self.notes) - MOST_NOTES
        if excess > 0:
            middle = MOST_NOTES // 2
            self.notes[middle : middle + excess + 1] = [Note(self.notes[middle].at, LEFT_OUT)]

    def phones(self) -> Iterator[Leg]:
        return (leg for leg in self.legs.values() if leg.is_phone)

    @property
    def main(self) -> Leg:
        """The channel whose uniqueid is the call's id; where it was never seen, the oldest that was."""
        return self.legs.get(self.id) or next(iter(self.legs.values()))

    def last_end(self) -> float:
        """When the last of its channels that are gone ended, in Unix seconds."""
        return max((leg.ended_at for leg in self.legs.values() if leg.ended_at is not None), default=self.started_at)

    def caller(self) -> Leg:
        """Whose wish the call was: the main leg, or the phone behind an originated Local channel."""
        main = self.main
        if main.is_phone:
            return main
        return next((leg for leg in self.phones() if leg.origin is Origin.ORIGINATED), main)

    # Sides

    def changed(self) -> None:
        """Numbers, legs, or who dials whom are not what they were: sides are made out anew, save of who has left.

        A call that waits for an hour in a queue has thousands of those.
        """
        for uniqueid in [uniqueid for uniqueid in self._sides if self._may_change(uniqueid)]:
            del self._sides[uniqueid]
        self._client = None

    def _may_change(self, uniqueid: str) -> bool:
        leg = self.legs.get(uniqueid)
        return leg is None or leg.live

    def side(self, leg: Leg) -> Side:
        """Made out once, until something changes. Trunks lead outside, save to mobiles that are extensions."""
        side = self._sides.get(leg.uniqueid)
        if side is None:
            plan, far_number = self.plan, self._far_number(leg)
            shown = map(plan.employee_number, (device_name(leg.endpoint), leg.extension, far_number))
            own = [number for number in shown if plan.is_internal(number)]
            is_internal = plan.is_fmc(far_number) if plan.is_trunk(leg.endpoint) else bool(own)
            extension = ""
            if is_internal:
                known = (*own, *map(plan.employee_number, self._beyond(leg)))
                extension = next((one for one in known if plan.employee(one)), own[0])
            # First without an owner: looking for him may lead back here.
            self._sides[leg.uniqueid] = side = Side(extension, is_internal, far_number, None)
            owner = plan.employee(extension) if is_internal else self._sender(leg)
            if owner is not None:
                self._sides[leg.uniqueid] = side = side._replace(owner=owner)
        return side

    def is_internal(self, leg: Leg) -> bool:
        """Whether an employee is at this leg's far end."""
        return self.side(leg).is_internal

    @staticmethod
    def _beyond(leg: Leg) -> Iterator[str]:
        """Whom another PBX was asked for where we had a prefix dialled, or whom of a group it says it rang."""
        if leg.origin is Origin.DIALLED:
            yield number_in(leg.dial_string)
            if leg.shown_number != leg.caller_number:
                yield leg.shown_number

    def _sender(self, leg: Leg) -> Employee | None:
        """The employee who rang this phone outside, or who sent the call on to it."""
        for asker in leg.askers():
            if asker.is_phone and self.is_internal(asker):
                return self.plan.employee(self.side(asker).extension)
            if asker.sent_by is not None:
                return self.plan.employee(self.side(asker.sent_by).extension)
            if asker.is_phone:
                return None
            # A Local channel that looked for an employee and was led to his mobile phone.
            if owner := self.plan.employee(asker.exten) or self.plan.employee(asker.caller_number):
                return owner
        return None

    def _far_number(self, leg: Leg) -> str:
        """A caller's own number; of a dialled phone what was dialled to reach it."""
        if leg.origin is Origin.CALLED_IN:
            return leg.caller_number
        if leg.source is None:
            return number_in(leg.dial_string) or leg.caller_number
        return self.plan.dialled_client(self._asked_for(leg.source), leg.dial_string)

    def _asked_for(self, leg: Leg) -> str:
        """What this leg wants to reach. A client's first number is our DID, which names nobody."""
        if leg.redirected_to or leg.is_local or leg.origin is not Origin.CALLED_IN:
            return leg.redirected_to or leg.exten
        from_outside = self.plan.is_trunk(leg.endpoint) or not self.is_internal(leg)
        return "" if from_outside else leg.exten

    def client_leg(self) -> Leg | None:
        """The oldest phone that is no employee's."""
        if self._client is None:
            outside = (leg for leg in self.phones() if not self.is_internal(leg))
            self._client = (min(outside, key=attrgetter("started_at"), default=None),)
        return self._client[0]

    def client_number(self) -> str:
        """The client's number as the PBX knew it; empty where he hid it."""
        client = self.client_leg()
        if client is None:
            return self.plan.dialled_client(self._asked_for(self.caller()), "")
        number = self.side(client).far_number
        if client.origin is not Origin.CALLED_IN and not is_number(number):
            number = self.plan.dialled_client(self._asked_for(client.root()), client.dial_string)
        return number if is_number(number) else ""

    def type(self) -> CallType:
        client = self.client_leg()
        if client is None:
            return self._type_without_client()
        if client.origin is Origin.ORIGINATED:
            return CallType.OUTGOING
        if client.origin is Origin.DIALLED:
            return CallType.OUTGOING if self.is_internal(client.root()) else CallType.UNKNOWN
        others = [leg for leg in self.legs.values() if leg is not client]
        transit = (
            any(leg.is_phone and leg.origin is Origin.DIALLED for leg in others)
            and not self.plan.is_internal(client.exten)
            and not any(self._stands_for_employee(leg) for leg in others)
        )
        return CallType.UNKNOWN if transit else CallType.INCOMING

    def _type_without_client(self) -> CallType:
        caller = self.caller()
        if not caller.is_phone:
            return CallType.UNKNOWN
        asked_for = self._asked_for(caller)
        if is_number(asked_for) and not self.plan.is_internal(asked_for) and not self.talked():
            # No channel towards the client was ever made: the trunk is down.
            rung = any(leg.rung_at is not None and leg.origin is Origin.DIALLED for leg in self.phones())
            return CallType.LOCAL if rung else CallType.OUTGOING
        return CallType.LOCAL

    def _stands_for_employee(self, leg: Leg) -> bool:
        """An employee's phone, or a Local channel that looked for one and was forwarded elsewhere."""
        return self.is_internal(leg) if leg.is_phone else self.plan.is_internal(leg.exten)

    def talked(self) -> bool:
        return any(leg.talks for leg in self.legs.values())

    # Conversations

    def is_conversation(self, leg: Leg) -> bool:
        """One phone rung towards an employee or the client, or an employee's that took the call over."""
        if not leg.is_phone:
            return False
        if leg.origin is Origin.DIALLED:
            return leg.rung_at is not None
        if not leg.talks or (leg in {self.main, self.caller()} and not self._called_by_client()):
            return False
        if leg.took_over:
            return True
        return self.is_internal(leg) and leg.talk(outside=True) is not None and not self._rang_somebody(leg)

    def _rang_somebody(self, leg: Leg) -> bool:
        return any(one.root() is leg for one in self.phones() if one.origin is Origin.DIALLED)

    def _called_by_client(self) -> bool:
        """Then who called before him (into a conference, as an agent of a queue) was not calling him."""
        client = self.client_leg()
        return client is not None and client.origin is Origin.CALLED_IN

    def conversations(self) -> list[Leg]:
        found = [leg for leg in self.legs.values() if self.is_conversation(leg)]
        found.sort(key=attrgetter("started_at"))
        return found

    def accepted(self, call_type: CallType, conversations: list[Leg]) -> Leg | None:
        """The last accepted conversation: the one whose talk with the client (or, inside, with anybody) began last."""
        outside = call_type is not CallType.LOCAL
        client = self.client_leg()
        last, began = None, -math.inf
        for leg in conversations:
            talk = leg.talk(outside=outside)
            if talk is not None and talk[0] >= began and (leg is not client or client.origin is not Origin.CALLED_IN):
                last, began = leg, talk[0]
        return last

    # The end

    def outcome(self, call_type: CallType, accepted: Leg | None) -> Outcome:
        """What the ended call came to (facts: DialStatus and causes both mislead, so the whole call is read)."""
        if accepted is not None:
            return outcomes.TALKED
        if any(leg.left_message for leg in self.legs.values()):
            return outcomes.LEFT_MESSAGE
        caller = self.caller()
        attempts = [leg for leg in self.phones() if leg.origin is Origin.DIALLED]
        told = [out for leg in attempts if (out := outcomes.of_attempt(self._end_of(leg), leg.cause, leg.dial_status))]
        if call_type is CallType.OUTGOING:
            found = outcomes.of_last(told)
        elif self._gave_up(caller, attempts):
            found = outcomes.GAVE_UP
        else:
            found = outcomes.of_missed_inbound(told)
        if found is not None:
            return found
        found = outcomes.of_attempt(End.ITSELF, caller.cause, caller.dial_status) or outcomes.NO_ANSWER
        # Nothing was rung for the client: what the PBX then played to him (congestion) is not what a trunk told.
        return outcomes.UNREACHABLE if found is outcomes.CONGESTION and call_type is CallType.INCOMING else found

    def _gave_up(self, caller: Leg, attempts: list[Leg]) -> bool:
        """The caller left while a phone rang, or while he waited in a queue or a menu, or before anything was tried."""
        if caller.hung_up_at is None:
            return False
        waiting = caller.place in {Place.QUEUE, Place.MENU}
        return waiting or any(leg.given_up_on for leg in attempts) or not (attempts or caller.dial_status)

    @staticmethod
    def _end_of(leg: Leg) -> End:
        if leg.given_up_on:
            return End.CALLER
        if leg.cause == 26 or leg.dial_status == "CANCEL":
            return End.ELSEWHERE
        return End.ITSELF

    def is_ivr(self, call_type: CallType, accepted: Leg | None) -> bool:
        """A missed inbound call whose caller was in a menu to the last, ringing no phone."""
        return (
            call_type is CallType.INCOMING
            and accepted is None
            and self.caller().place is Place.MENU
            and not any(leg.left_message for leg in self.legs.values())
        )
