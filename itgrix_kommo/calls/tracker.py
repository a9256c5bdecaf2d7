"""The tracker: events in, stages out. Sans-IO: the same events always give the same stages.

`feed(event)` takes what Asterisk told, `advance(now)` lets time pass where it told nothing. Calls are kept by their
channels and bridges alone; numbers and contexts only say what kind of call it was (see `live`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.call import Note, Stage, StageName
from itgrix_kommo.calls.leg import PLACE_OF_APPLICATION, Leg, Origin, Place
from itgrix_kommo.calls.live import LiveCall
from itgrix_kommo.calls.numbers import NumberPlan, dialled_device, is_number
from itgrix_kommo.calls.rooms import Rooms
from itgrix_kommo.calls.view import decided, freeze

GRACE = 2.0
"""Seconds that a call without channels waits for late events before it is over."""

REMEMBER_ENDED = 600.0
"""Seconds in which a late event of an ended call is known to be late, and does not begin a new one."""

STALE_AFTER = 6 * 3600.0
"""Seconds after which a channel that nothing was heard of is taken for gone: its hangup was lost."""


_DIALLING = frozenset({Place.RINGING, Place.QUEUE})


def age(uniqueid: str) -> tuple[float, int]:
    """Sorts uniqueids by birth: ``1763810000.12``, or with a system name in front: ``pbx1-1763810000.12``."""
    seconds, _, count = uniqueid.rpartition("-")[2].partition(".")
    try:
        return float(seconds), int(count)
    except ValueError:
        return math.inf, 0


class Tracker:
    """All live calls of one PBX."""

    def __init__(self, plan: NumberPlan, *, grace: float = GRACE) -> None:
        self.plan = plan
        self.calls: dict[str, LiveCall] = {}
        self._grace = grace
        self._legs: dict[str, Leg] = {}
        self._call_of: dict[str, LiveCall] = {}
        self._rooms = Rooms(
            on_meeting=self._on_meeting, on_visit=self._on_visit, on_parting=self._on_parting, on_talk=self._on_talk
        )
        self._silent_since: dict[str, float] = {}
        self._due = math.inf
        self._ended: dict[str, float] = {}
        self._forwards: dict[str, Leg] = {}
        self._condemned: list[tuple[Leg, float]] = []
        self._stages: list[Stage] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            ev.Newchannel: self._on_channel,
            ev.Newstate: self._on_channel,
            ev.NewCallerid: self._on_channel,
            ev.Newexten: self._on_newexten,
            ev.Rename: self._on_rename,
            ev.HangupRequest: self._on_hangup_request,
            ev.Hangup: self._on_hangup,
            ev.DialBegin: self._on_dial_begin,
            ev.DialState: self._on_dial_state,
            ev.DialEnd: self._on_dial_end,
            ev.BridgeEnter: self._on_bridge_enter,
            ev.BridgeLeave: self._on_bridge_leave,
            ev.BridgeDestroy: self._on_bridge_destroy,
            ev.BridgeMerge: self._on_bridge_merge,
            ev.LocalBridge: self._on_local_pair,
            ev.LocalOptimizationBegin: self._on_local_pair,
            ev.LocalOptimizationEnd: self._on_local_pair,
            ev.BlindTransfer: self._on_blind_transfer,
            ev.AttendedTransfer: self._on_attended_transfer,
            ev.Pickup: self._on_pickup,
            ev.Parking: self._on_parking,
            ev.Hold: self._on_hold,
            ev.VarSet: self._on_varset,
            ev.QueueCaller: self._on_queue_caller,
            ev.LinkedidEnd: self._on_linkedid_end,
            ev.Resync: self._on_resync,
            ev.Endpoints: self._on_endpoints,
        }

    def feed(self, event: ev.Event) -> list[Stage]:
        """Take one event; the stages it led to, in order."""
        if event.at >= self._due:
            self._finish_silent(event.at)
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)
        return self._take_stages()

    def advance(self, now: float) -> list[Stage]:
        """Let time pass up to `now`; call it only when every event received before `now` has been fed."""
        if now >= self._due:
            self._finish_silent(now)
        return self._take_stages()

    def sweep(self, now: float) -> list[Stage]:
        """End what nothing was heard of for hours: its hangup was lost."""
        for leg in [leg for leg in self._legs.values() if leg.live and now - leg.heard_at > STALE_AFTER]:
            self._end_unseen(leg, leg.heard_at, now)
        stages = self.advance(now)
        self._forget_ended(now)
        return stages

    def pass_over(self, ids: frozenset[str], at: float) -> None:
        """These linkedids and uniqueids belong to calls that are dealt with: events of theirs up to `at` are late."""
        self._ended.update(dict.fromkeys(ids, at))

    @property
    def next_due(self) -> float:
        """When `advance` will have something to do, in Unix seconds; infinity if nothing waits."""
        return self._due

    def _take_stages(self) -> list[Stage]:
        if not self._stages:
            return []
        stages, self._stages = self._stages, []
        return stages

    def _emit(self, at: float, name: StageName, leg: Leg) -> None:
        self._stages.append(Stage(at, name, freeze(leg.call, None), leg.uniqueid))

    # Legs and calls

    def _leg(self, at: float, channel: ev.Channel) -> Leg | None:
        """The leg of this channel, made if it is new; None for a channel whose call has ended already."""
        leg = self._legs.get(channel.uniqueid)
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
                self._tie(at, leg.call, owner, "they carry the same linkedid")
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
            call = LiveCall(linkedid or channel.uniqueid, self.plan, at)
            self.calls[call.id] = call
            self._claim(call, call.id)
        # A channel whose birth was missed may have lent its id to others before.
        self._tie(at, call, self._call_of.get(channel.uniqueid), "one carries the other's id")
        call = self._call_of[call.id]
        leg = Leg.born(call, at, channel)
        call.legs[leg.uniqueid] = self._legs[leg.uniqueid] = leg
        self._claim(call, leg.uniqueid)
        call.live_legs += 1
        call.changed()
        self._silent_since.pop(call.id, None)
        return leg

    def _tie(self, at: float, one: LiveCall, other: LiveCall | None, why: str) -> None:
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

    def _end_leg(self, at: float, leg: Leg) -> None:
        if not leg.live:
            return
        call = leg.call
        leg.ended_at = at
        leg.is_parked = False
        leg.disconnect(at)
        self._rooms.leave(at, leg)
        if call.is_conversation(leg):
            call.note(at, f"{leg.name} ends (cause {leg.cause})")
            self._emit(at, StageName.ENDED, leg)
        call.live_legs -= 1
        if call.live_legs == 0:
            self._silent_since[call.id] = call.last_end()
            self._due = min(self._due, call.last_end() + self._grace)

    def _end_unseen(self, leg: Leg, last_known: float, now: float) -> None:
        if leg.talks:
            last_known = max(last_known, leg.talks[-1].since)
        leg.call.note(now, f"{leg.name} is gone; its hangup was not seen, it was last known at {last_known:.0f}")
        self._end_leg(last_known, leg)

    def _finish_silent(self, now: float) -> None:
        lost = [(leg, at) for leg, at in self._condemned if now - at >= self._grace]
        self._condemned = [(leg, at) for leg, at in self._condemned if now - at < self._grace]
        for leg, at in lost:
            # Who picks a call up loses his own linkedid while he talks with one who has another: its end is not his.
            if leg.live and all(other.linkedid == leg.linkedid for other in leg.call.legs.values() if other.live):
                self._end_unseen(leg, at, now)
        for call_id in [call_id for call_id, since in self._silent_since.items() if now - since >= self._grace]:
            self._finish(self.calls[call_id], self._silent_since.pop(call_id), now)
        waiting = [*self._silent_since.values(), *(at for _, at in self._condemned)]
        self._due = min(waiting, default=math.inf) + self._grace
        self._forget_ended(now)

    def _forget_ended(self, now: float) -> None:
        while self._ended and now - next(iter(self._ended.values())) > REMEMBER_ENDED:
            del self._ended[next(iter(self._ended))]

    def _finish(self, call: LiveCall, ended_at: float, now: float) -> None:
        view = freeze(call, ended_at)
        view = replace(view, timeline=(*view.timeline, Note(ended_at, decided(view))))
        self._stages.append(Stage(ended_at, StageName.CALL_ENDED, view, ""))
        del self.calls[call.id]
        for uniqueid, leg in call.legs.items():
            if leg.stands_for is None:
                del self._legs[uniqueid]
                self._forwards.pop(uniqueid, None)
        for alias in call.aliases:
            self._call_of.pop(alias, None)
            self._ended[alias] = now

    # Talk

    def _on_meeting(self, at: float, one: Leg, other: Leg) -> None:
        self._tie(at, one.call, other.call, "their channels are bridged")

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
            self._emit(at, StageName.ENDED, visit)

    @staticmethod
    def _may_be_one(one: LiveCall, other: LiveCall) -> bool:
        return one is other or not (one.of_agent or other.of_agent)

    def _on_talk(self, at: float, talking: list[Leg], begun: list[Leg]) -> None:
        for leg in begun:
            leg.call.note(at, f"{leg.name} talks with {', '.join(one.name for one in talking if one is not leg)}")
        for leg in [one for present in talking for one in (present, *present.visits)]:
            if not leg.accepted_told and leg.call.is_conversation(leg):
                leg.accepted_told = True
                self._emit(at, StageName.ACCEPTED, leg)

    # Events

    def _on_channel(self, event: ev.Newchannel | ev.Newstate | ev.NewCallerid) -> None:
        known = event.channel.uniqueid in self._legs
        leg = self._leg(event.at, event.channel)
        if leg is None:
            return
        if not known:
            seen = "" if isinstance(event, ev.Newchannel) else " (its beginning was not seen)"
            number = leg.caller_number or "a hidden number"
            what = f"calls {leg.exten} from {number}" if leg.origin is Origin.CALLED_IN else "is made"
            leg.call.note(event.at, f"{leg.name} {what}{seen}")
        if leg.is_up and leg.room is not None and not leg.talking:
            self._rooms.listen(event.at, leg.room)

    def _on_newexten(self, event: ev.Newexten) -> None:
        leg = self._leg(event.at, event.channel)
        if leg is None:
            return
        place = PLACE_OF_APPLICATION.get(event.application.lower())
        if place is not None and place is not leg.place:
            leg.move_to(place)
            if leg.is_phone:
                leg.call.note(event.at, f"{leg.name} is in {event.application}({event.app_data}): {place.value}")

    def _on_rename(self, event: ev.Rename) -> None:
        if leg := self._legs.get(event.uniqueid):
            leg.name = event.new_name

    def _on_hangup_request(self, event: ev.HangupRequest) -> None:
        """A soft request is Asterisk's own: it also stands for redirects, and tells nothing of who gave up."""
        leg = self._leg(event.at, event.channel)
        if leg is not None and leg.hung_up_at is None and not event.soft:
            leg.call.note(event.at, f"{leg.name} hangs up")
            for other in leg.call.phones():
                if other is not leg and other.is_ringing and other.root() is leg:
                    other.given_up_on = True
            leg.hung_up_at = event.at

    def _on_hangup(self, event: ev.Hangup) -> None:
        leg = self._legs.get(event.channel.uniqueid)
        if leg is not None:
            leg.hear(event.at, event.channel)
            leg.cause = event.cause
            self._end_leg(event.at, leg)

    def _on_dial_begin(self, event: ev.DialBegin) -> None:
        source = self._leg(event.at, event.source) if event.source else None
        leg = self._leg(event.at, event.dest)
        if leg is None or not leg.live:
            return
        leg.dial_string = event.dial_string
        leg.rung_at = event.at
        leg.source = source if source is not leg else None
        leg.origin = Origin.ORIGINATED if source is None else Origin.DIALLED
        if source is not None:
            self._tie(event.at, source.call, leg.call, "one dials the other")
            if leg.is_phone and self._dials_for_originated(source):
                leg.origin = Origin.ORIGINATED
        if source is not None and not leg.is_phone:
            leg.sent_by = self._forwards.pop(source.uniqueid, None)
        leg.call.changed()
        if leg.is_phone:
            leg.call.note(event.at, f"{leg.name} is rung for {source.root().name if source else 'nobody'}")
        if leg.call.is_conversation(leg) and not (leg.requested_told or leg.accepted_told):
            leg.requested_told = True
            self._emit(event.at, StageName.REQUESTED, leg)

    @staticmethod
    def _dials_for_originated(source: Leg) -> bool:
        """Whether this is the plumbing's half of an originated Local channel, looking for the first phone."""
        half = source.other_half
        if not source.is_local or half is None or not source.name.endswith(";2"):
            return False
        return half.origin is Origin.ORIGINATED and not any(
            leg.origin is Origin.ORIGINATED for leg in source.call.phones()
        )

    def _on_dial_state(self, event: ev.DialState) -> None:
        leg = self._leg(event.at, event.dest)
        if leg is not None and event.source is not None:
            source = self._leg(event.at, event.source)
            self._tie(event.at, leg.call, source.call if source else None, "one dials the other")

    def _on_dial_end(self, event: ev.DialEnd) -> None:
        source = self._leg(event.at, event.source) if event.source else None
        leg = self._leg(event.at, event.dest)
        if leg is None:
            return
        if source is not None:
            self._tie(event.at, source.call, leg.call, "one dials the other")
            if leg.origin is Origin.CALLED_IN and leg.source is None and leg is not source:
                # Who picks a ringing call up is named as the one that answered, though nobody ever dialled him.
                self._takes_over(event.at, leg)
        if leg.dial_status != "ANSWER":
            leg.dial_status = event.status
        if event.forward and source is not None:
            self._forwards[source.uniqueid] = leg
        if leg.is_phone:
            onward = f", forwarded to {event.forward}" if event.forward else ""
            leg.call.note(event.at, f"{leg.name}: dialling ended with {event.status}{onward}")

    def _on_bridge_enter(self, event: ev.BridgeEnter) -> None:
        leg = self._leg(event.at, event.channel)
        if leg is None or not leg.live:
            return
        swapped = self._legs.get(event.swap_uniqueid)
        if swapped is not None and swapped is not leg:
            self._rooms.leave(event.at, swapped)
        self._rooms.enter(event.at, leg, self._rooms.of(event.bridge))

    def _on_bridge_leave(self, event: ev.BridgeLeave) -> None:
        leg = self._leg(event.at, event.channel)
        if leg is not None and leg.room is not None and leg.room.id == event.bridge.id:
            self._rooms.leave(event.at, leg)

    def _on_bridge_destroy(self, event: ev.BridgeDestroy) -> None:
        self._rooms.close(event.at, event.bridge.id)

    def _on_bridge_merge(self, event: ev.BridgeMerge) -> None:
        self._rooms.merge(event.at, event.to_bridge, event.from_bridge)

    def _on_local_pair(self, event: ev.LocalBridge | ev.LocalOptimizationBegin | ev.LocalOptimizationEnd) -> None:
        one, two = self._leg(event.at, event.one), self._leg(event.at, event.two)
        if one is None or two is None:
            return
        one.other_half, two.other_half = two, one
        self._tie(event.at, one.call, two.call, "they are the halves of a Local channel")

    def _on_blind_transfer(self, event: ev.BlindTransfer) -> None:
        by = self._leg(event.at, event.transferer)
        sent = self._leg(event.at, event.transferee) if event.transferee else None
        if by is not None:
            by.call.note(event.at, f"{by.name} transfers blindly to {event.extension}: {event.result}")
        if sent is not None:
            self._tie(event.at, sent.call, by.call if by else None, "one was transferred by the other")
            if event.result == "Success" and is_number(event.extension):
                sent.redirected_to = event.extension
                sent.sent_by = by
                sent.call.changed()

    def _on_attended_transfer(self, event: ev.AttendedTransfer) -> None:
        first, second = self._leg(event.at, event.orig_transferer), self._leg(event.at, event.second_transferer)
        if first is None or second is None:
            return
        first.call.note(event.at, f"{first.name} transfers after consulting on {second.name}: {event.result}")
        if event.result == "Success":
            self._tie(event.at, first.call, second.call, "one was transferred to the other")

    def _on_pickup(self, event: ev.Pickup) -> None:
        leg, target = self._leg(event.at, event.channel), self._leg(event.at, event.target)
        if leg is None or target is None:
            return
        self._tie(event.at, leg.call, target.call, "one picked the other up")
        leg.call.note(event.at, f"{leg.name} picks up what rings at {target.name}")
        self._takes_over(event.at, leg)

    def _takes_over(self, at: float, leg: Leg) -> None:
        leg.took_over = True
        if leg.room is not None:
            # He may talk already, and only now is known to have been accepted.
            self._rooms.listen(at, leg.room)

    def _on_parking(self, event: ev.Parking) -> None:
        leg = self._leg(event.at, event.parkee)
        if leg is None:
            return
        call = leg.call
        call.note(event.at, f"{leg.name}: {event.kind} at the parking lot")
        parked = event.kind == "parked"
        accepted = call.accepted(call.type(), call.conversations())
        for one in call.legs.values():
            one.is_parked = parked and one is accepted
        if event.retriever is not None:
            retriever = self._leg(event.at, event.retriever)
            if retriever is not None:
                self._tie(event.at, leg.call, retriever.call, "one retrieves the other from parking")
                self._takes_over(event.at, retriever)

    def _on_hold(self, event: ev.Hold) -> None:
        leg = self._leg(event.at, event.channel)
        if leg is not None:
            leg.call.note(event.at, f"{leg.name} {'holds' if event.on else 'takes back'} the other side")

    def _on_varset(self, event: ev.VarSet) -> None:
        leg = self._legs.get(event.uniqueid)
        if leg is None:
            return
        leg.heard_at = event.at
        variable, value = event.variable.lstrip("_"), event.value
        if variable == "MIXMONITOR_FILENAME":
            leg.recording = value
            leg.call.note(event.at, f"{leg.name} is recorded to {value}")
        elif variable == "DIALSTATUS" and leg.origin is not Origin.DIALLED:
            leg.dial_status = value
        elif variable == "AMPUSER" and is_number(value):
            leg.extension = value
            leg.call.changed()
        elif variable == "FROM_DID" and is_number(value) and leg.is_phone and leg.origin is Origin.CALLED_IN:
            leg.exten = value
            leg.call.changed()
        elif variable == "VMSTATUS" and value == "SUCCESS":
            leg.left_message = True
            leg.call.note(event.at, f"{leg.name} left a message")

    def _on_queue_caller(self, event: ev.QueueCaller) -> None:
        leg = self._leg(event.at, event.channel)
        if leg is not None:
            leg.move_to(Place.QUEUE if event.kind == "join" else Place.DIALPLAN)
            leg.call.note(event.at, f"{leg.name}: {event.kind} queue {event.queue}")

    def _on_linkedid_end(self, event: ev.LinkedidEnd) -> None:
        """Its channels' hangups may still be on their way; what is left after the grace has lost its own."""
        left = [leg for leg in self._legs.values() if leg.live and leg.linkedid == event.linkedid]
        if left:
            self._condemned.extend((leg, event.at) for leg in left)
            self._due = min(self._due, event.at + self._grace)

    def _on_resync(self, event: ev.Resync) -> None:
        """What we thought alive and is not has ended unseen; what lives and is unknown began unseen."""
        exists = {live.channel.uniqueid for live in event.channels}
        for lost in [leg for leg in self._legs.values() if leg.live and leg.uniqueid not in exists]:
            if lost.heard_at < event.asked_at:
                self._end_unseen(lost, max(lost.heard_at, event.blind_since or 0.0), event.at)
        found: list[tuple[Leg, ev.LiveChannel]] = []
        for live in sorted(event.channels, key=lambda live: age(live.channel.uniqueid)):
            known = self._legs.get(live.channel.uniqueid)
            if known is not None and known.heard_at < event.asked_at and not live.bridge_id:
                self._rooms.leave(max(known.heard_at, event.blind_since or 0.0), known)
            leg = self._resync_channel(event.at, live)
            if leg is not None:
                found.append((leg, live))
        dialling = [(leg, live) for leg, live in found if leg.place in _DIALLING]
        for leg, live in found:
            if live.application.startswith(("AppDial", "AppQueue")) and leg.rung_at is None:
                self._resync_dialled(leg, dialling)
        # Who hears whom is asked last: by then it is known who rang whom.
        bridges = {bridge.id: bridge for bridge in event.bridges}
        for leg, live in found:
            if bridge := bridges.get(live.bridge_id):
                self._rooms.enter(event.at, leg, self._rooms.of(bridge))

    def _resync_channel(self, at: float, live: ev.LiveChannel) -> Leg | None:
        known = live.channel.uniqueid in self._legs
        leg = self._leg(at if known else live.started_at, live.channel)
        if leg is None or not leg.live:
            return None
        leg.heard_at = at
        if not known:
            leg.call.note(at, f"{leg.name} exists; its beginning was not seen")
        leg.call.of_agent |= live.application == "AgentLogin"
        if place := PLACE_OF_APPLICATION.get(live.application.lower()):
            leg.move_to(place)
        if leg.is_local and leg.other_half is None:
            self._pair_by_name(at, leg)
        return leg

    @staticmethod
    def _resync_dialled(leg: Leg, dialling: list[tuple[Leg, ev.LiveChannel]]) -> None:
        """Nobody told who rang this leg: he who is dialling its device, or the only one of its call who dials."""
        leg.origin = Origin.DIALLED
        leg.rung_at = leg.started_at
        leg.call.changed()
        asking = [
            (source, target)
            for source, live in dialling
            if source.call is leg.call
            for target in live.app_data.partition(",")[0].split("&")
        ]
        named = [(source, target) for source, target in asking if dialled_device(target) == leg.endpoint]
        sources = {source.uniqueid for source, _ in asking}
        for source, target in named or (asking if len(sources) == 1 else []):
            leg.source = source
            leg.dial_string = target if source.place is Place.RINGING else ""  # a queue's name is no number

    def _pair_by_name(self, at: float, leg: Leg) -> None:
        """The names of the halves of a Local channel differ in their last digit only."""
        for other in self._legs.values():
            if other is not leg and other.live and other.name[:-1] == leg.name[:-1]:
                leg.other_half, other.other_half = other, leg
                self._tie(at, leg.call, other.call, "they are the halves of a Local channel")
                return

    def _on_endpoints(self, event: ev.Endpoints) -> None:
        self.plan.learn_endpoints(event.names)
