"""All live calls of one PBX: their legs, how two become one, and when they are over."""

from __future__ import annotations

import math
from dataclasses import replace

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.call import Note, Stage, StageName
from itgrix_kommo.calls.leg import Leg
from itgrix_kommo.calls.live import LiveCall
from itgrix_kommo.calls.numbers import NumberPlan
from itgrix_kommo.calls.rooms import Rooms
from itgrix_kommo.calls.view import decided, freeze

GRACE = 2.0
"""Seconds that a call without channels waits for late events before it is over."""

REMEMBER_ENDED = 600.0
"""Seconds in which a late event of an ended call is known to be late, and does not begin a new one."""

STALE_AFTER = 6 * 3600.0
"""Seconds after which a channel that nothing was heard of is taken for gone: its hangup was lost."""


def age(uniqueid: str) -> tuple[float, int]:
    """Sorts uniqueids by birth: ``1763810000.12``, or with a system name in front: ``pbx1-1763810000.12``."""
    seconds, _, count = uniqueid.rpartition("-")[2].partition(".")
    try:
        return float(seconds), int(count)
    except ValueError:
        return math.inf, 0


class LiveCalls:
    """Calls by their id, legs by their uniqueid. What happens to them is kept as stages until it is taken."""

    def __init__(self, plan: NumberPlan, grace: float) -> None:
        self.calls: dict[str, LiveCall] = {}
        self.legs: dict[str, Leg] = {}
        self.rooms = Rooms(
            on_meeting=self._on_meeting, on_visit=self._on_visit, on_parting=self._on_parting, on_talk=self._on_talk
        )
        self.forwards: dict[str, Leg] = {}
        """Whose phone sent the dialling on, by the uniqueid of the channel that dials."""
        self.due = math.inf
        """When `finish_silent` will have something to do."""
        self._plan = plan
        self._grace = grace
        self._call_of: dict[str, LiveCall] = {}
        self._silent_since: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._condemned: list[tuple[Leg, float]] = []
        self._stages: list[Stage] = []

    def take_stages(self) -> list[Stage]:
        if not self._stages:
            return []
        stages, self._stages = self._stages, []
        return stages

    def emit(self, at: float, name: StageName, leg: Leg) -> None:
        self._stages.append(Stage(at, name, freeze(leg.call, None), leg.uniqueid))

    def leg(self, at: float, channel: ev.Channel) -> Leg | None:
        """The leg of this channel, made if it is new; None for a channel whose call has ended already."""
        leg = self.legs.get(channel.uniqueid)
        if leg is None:
            if not channel.uniqueid or channel.uniqueid in self._ended:
                return None
            leg = self._new_leg(at, channel)
        else:
            leg.hear(at, channel)
        if channel.linkedid and channel.linkedid != leg.linkedid:
            leg.linkedid = channel.linkedid
            owner = self._call_of.get(channel.linkedid, leg.call)
            if channel.linkedid not in self._ended and self._may_be_one(leg.call, owner):
                self.tie(at, leg.call, owner, "they carry the same linkedid")
                self._claim(leg.call, channel.linkedid)
        return leg

    def _claim(self, call: LiveCall, alias: str) -> None:
        """An id is the call's who had it first: no two are ever known by the same one."""
        if self._call_of.setdefault(alias, call) is call:
            call.aliases.add(alias)

    def _new_leg(self, at: float, channel: ev.Channel) -> Leg:
        linkedid = channel.linkedid if channel.linkedid not in self._ended else ""
        call = self._call_of.get(linkedid or channel.uniqueid)
        if call is not None and call.of_agent:
            # The linkedid of who waits for all of his clients goes over to what meets him.
            linkedid, call = "", self._call_of.get(channel.uniqueid)
        if call is None:
            call = LiveCall(linkedid or channel.uniqueid, self._plan, at)
            self.calls[call.id] = call
            self._claim(call, call.id)
        # A channel whose birth was missed may have lent its id to others before.
        self.tie(at, call, self._call_of.get(channel.uniqueid), "one carries the other's id")
        call = self._call_of[call.id]
        leg = Leg.born(call, at, channel)
        call.legs[leg.uniqueid] = self.legs[leg.uniqueid] = leg
        self._claim(call, leg.uniqueid)
        call.live_legs += 1
        call.changed()
        self._silent_since.pop(call.id, None)
        return leg

    def tie(self, at: float, one: LiveCall, other: LiveCall | None, why: str) -> None:
        """Make two calls one, under the oldest linkedid."""
        if other is None or one is other or not self._may_be_one(one, other):
            return
        kept, gone = (one, other) if age(one.id) <= age(other.id) else (other, one)
        kept.note(at, f"is one with call {gone.id}: {why}")
        for leg in gone.legs.values():
            leg.call = kept
            twin = kept.legs.setdefault(leg.uniqueid, leg)
            if twin is not leg:
                # The one visited the other's call, or both were visited by a third.
                guest, stays = (twin, leg) if leg.stands_for is None else (leg, twin)
                if guest.stands_for is not None and guest in guest.stands_for.visits:
                    guest.stands_for.visits.remove(guest)
                kept.legs[leg.uniqueid] = stays
        kept.changed()
        kept.live_legs += gone.live_legs
        kept.started_at = min(kept.started_at, gone.started_at)
        kept.notes = sorted(kept.notes + gone.notes, key=lambda note: note.at)
        kept.aliases |= gone.aliases
        for alias in gone.aliases:
            self._call_of[alias] = kept
        del self.calls[gone.id]
        self._silent_since.pop(gone.id, None)
        if kept.live_legs:
            self._silent_since.pop(kept.id, None)
        else:
            self._silent_since[kept.id] = kept.last_end()

    @staticmethod
    def _may_be_one(one: LiveCall, other: LiveCall) -> bool:
        return one is other or not (one.of_agent or other.of_agent)

    def pass_over(self, ids: frozenset[str], at: float) -> None:
        """These linkedids and uniqueids belong to calls that are dealt with: events of theirs up to `at` are late."""
        self._ended.update(dict.fromkeys(ids, at))

    # Ends

    def end_leg(self, at: float, leg: Leg) -> None:
        if not leg.live:
            return
        call = leg.call
        leg.ended_at = at
        leg.is_parked = False
        leg.disconnect(at)
        self.rooms.leave(at, leg)
        if call.is_conversation(leg):
            call.note(at, f"{leg.name} ends (cause {leg.cause})")
            self.emit(at, StageName.ENDED, leg)
        call.live_legs -= 1
        if call.live_legs == 0:
            self._silent_since[call.id] = call.last_end()
            self.due = min(self.due, call.last_end() + self._grace)

    def end_unseen(self, leg: Leg, last_known: float, now: float) -> None:
        if leg.talks:
            last_known = max(last_known, leg.talks[-1].since)
        leg.call.note(now, f"{leg.name} is gone; its hangup was not seen, it was last known at {last_known:.0f}")
        self.end_leg(last_known, leg)

    def condemn(self, leg: Leg, at: float) -> None:
        """Its hangup may still be on its way; if it is alive after the grace, it has lost it."""
        self._condemned.append((leg, at))
        self.due = min(self.due, at + self._grace)

    def end_stale(self, now: float) -> None:
        """End what nothing was heard of for hours: its hangup was lost."""
        for leg in [leg for leg in self.legs.values() if leg.live and now - leg.heard_at > STALE_AFTER]:
            self.end_unseen(leg, leg.heard_at, now)

    def finish_silent(self, now: float) -> None:
        lost = [(leg, at) for leg, at in self._condemned if now - at >= self._grace]
        self._condemned = [(leg, at) for leg, at in self._condemned if now - at < self._grace]
        for leg, at in lost:
            # Who picks a call up loses his own linkedid while he talks with one who has another: its end is not his.
            if leg.live and all(other.linkedid == leg.linkedid for other in leg.call.legs.values() if other.live):
                self.end_unseen(leg, at, now)
        for call_id in [call_id for call_id, since in self._silent_since.items() if now - since >= self._grace]:
            self._finish(self.calls[call_id], self._silent_since.pop(call_id), now)
        waiting = [*self._silent_since.values(), *(at for _, at in self._condemned)]
        self.due = min(waiting, default=math.inf) + self._grace
        self.forget_ended(now)

    def _finish(self, call: LiveCall, ended_at: float, now: float) -> None:
        view = freeze(call, ended_at)
        view = replace(view, timeline=(*view.timeline, Note(ended_at, decided(view))))
        self._stages.append(Stage(ended_at, StageName.CALL_ENDED, view, ""))
        del self.calls[call.id]
        for uniqueid, leg in call.legs.items():
            if leg.stands_for is None:
                del self.legs[uniqueid]
                self.forwards.pop(uniqueid, None)
        for alias in call.aliases:
            self._call_of.pop(alias, None)
            self._ended[alias] = now

    def forget_ended(self, now: float) -> None:
        while self._ended and now - next(iter(self._ended.values())) > REMEMBER_ENDED:
            del self._ended[next(iter(self._ended))]

    # Talk

    def _on_meeting(self, at: float, one: Leg, other: Leg) -> None:
        self.tie(at, one.call, other.call, "their channels are bridged")

    def _on_visit(self, at: float, guest: Leg, host: Leg) -> None:
        known = host.call.legs.get(guest.uniqueid)
        if known is None:
            host.call.legs[guest.uniqueid] = guest.visitor(host.call, at)
            host.call.changed()
            host.call.note(at, f"{guest.name}, of call {guest.call.id}, takes part")
        elif known not in guest.visits:
            guest.visits.append(known)
            known.ended_at = None

    def _on_parting(self, at: float, guest: Leg, visit: Leg) -> None:
        guest.visits.remove(visit)
        visit.ended_at = at
        visit.disconnect(at)
        if visit.call.is_conversation(visit):
            visit.call.note(at, f"{visit.name} takes leave")
            self.emit(at, StageName.ENDED, visit)

    def _on_talk(self, at: float, talking: list[Leg], begun: list[Leg]) -> None:
        for leg in begun:
            leg.call.note(at, f"{leg.name} talks with {', '.join(one.name for one in talking if one is not leg)}")
        for leg in [one for present in talking for one in (present, *present.visits)]:
            if not leg.accepted_told and leg.call.is_conversation(leg):
                leg.accepted_told = True
                self.emit(at, StageName.ACCEPTED, leg)
