"""The tracker: events in, stages out. Sans-IO: the same events always give the same stages.

`feed(event)` takes what Asterisk told, `advance(now)` lets time pass where it told nothing. Calls are kept by their
channels and bridges alone; numbers and contexts only say what kind of call it was (see `live`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.call import Stage, StageName
from itgrix_kommo.calls.leg import PLACE_OF_APPLICATION, Leg, Origin, Place
from itgrix_kommo.calls.live import LiveCall
from itgrix_kommo.calls.live_calls import GRACE, LiveCalls
from itgrix_kommo.calls.numbers import NumberPlan, is_number
from itgrix_kommo.calls.resync import resync


class Tracker:
    """All live calls of one PBX."""

    def __init__(self, plan: NumberPlan, *, grace: float = GRACE) -> None:
        self.plan = plan
        self._live = LiveCalls(plan, grace)
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
            ev.Resync: partial(resync, self._live),
            ev.Endpoints: self._on_endpoints,
        }

    def feed(self, event: ev.Event) -> list[Stage]:
        """Take one event; the stages it led to, in order."""
        if event.at >= self._live.due:
            self._live.finish_silent(event.at)
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)
        return self._live.take_stages()

    def advance(self, now: float) -> list[Stage]:
        """Let time pass up to `now`; call it only when every event received before `now` has been fed."""
        if now >= self._live.due:
            self._live.finish_silent(now)
        return self._live.take_stages()

    def sweep(self, now: float) -> list[Stage]:
        """End what nothing was heard of for hours: its hangup was lost."""
        self._live.end_stale(now)
        stages = self.advance(now)
        self._live.forget_ended(now)
        return stages

    def pass_over(self, ids: frozenset[str], at: float) -> None:
        """These linkedids and uniqueids belong to calls that are dealt with: events of theirs up to `at` are late."""
        self._live.pass_over(ids, at)

    @property
    def calls(self) -> dict[str, LiveCall]:
        """By their ids."""
        return self._live.calls

    @property
    def next_due(self) -> float:
        """When `advance` will have something to do, in Unix seconds; infinity if nothing waits."""
        return self._live.due

    # Events

    def _on_channel(self, event: ev.Newchannel | ev.Newstate | ev.NewCallerid) -> None:
        known = event.channel.uniqueid in self._live.legs
        leg = self._live.leg(event.at, event.channel)
        if leg is None:
            return
        if not known:
            seen = "" if isinstance(event, ev.Newchannel) else " (its beginning was not seen)"
            number = leg.caller_number or "a hidden number"
            what = f"calls {leg.exten} from {number}" if leg.origin is Origin.CALLED_IN else "is made"
            leg.call.note(event.at, f"{leg.name} {what}{seen}")
        if leg.is_up and leg.room is not None and not leg.talking:
            self._live.rooms.listen(event.at, leg.room)

    def _on_newexten(self, event: ev.Newexten) -> None:
        leg = self._live.leg(event.at, event.channel)
        if leg is None:
            return
        place = PLACE_OF_APPLICATION.get(event.application.lower())
        if place is not None and place is not leg.place:
            leg.move_to(place)
            if leg.is_phone:
                leg.call.note(event.at, f"{leg.name} is in {event.application}({event.app_data}): {place.value}")

    def _on_rename(self, event: ev.Rename) -> None:
        if leg := self._live.legs.get(event.uniqueid):
            leg.name = event.new_name

    def _on_hangup_request(self, event: ev.HangupRequest) -> None:
        """A soft request is Asterisk's own: it also stands for redirects, and tells nothing of who gave up."""
        leg = self._live.leg(event.at, event.channel)
        if leg is not None and leg.hung_up_at is None and not event.soft:
            leg.call.note(event.at, f"{leg.name} hangs up")
            for other in leg.call.phones():
                if other is not leg and other.is_ringing and other.root() is leg:
                    other.given_up_on = True
            leg.hung_up_at = event.at

    def _on_hangup(self, event: ev.Hangup) -> None:
        leg = self._live.legs.get(event.channel.uniqueid)
        if leg is not None:
            leg.hear(event.at, event.channel)
            leg.cause = event.cause
            self._live.end_leg(event.at, leg)

    def _on_dial_begin(self, event: ev.DialBegin) -> None:
        source = self._live.leg(event.at, event.source) if event.source else None
        leg = self._live.leg(event.at, event.dest)
        if leg is None or not leg.live:
            return
        leg.dial_string = event.dial_string
        leg.rung_at = event.at
        leg.source = source if source is not leg else None
        leg.origin = Origin.ORIGINATED if source is None else Origin.DIALLED
        if source is not None:
            self._live.tie(event.at, source.call, leg.call, "one dials the other")
            if leg.is_phone and self._dials_for_originated(source):
                leg.origin = Origin.ORIGINATED
        if source is not None and not leg.is_phone:
            leg.sent_by = self._live.forwards.pop(source.uniqueid, None)
        leg.call.changed()
        if leg.is_phone:
            leg.call.note(event.at, f"{leg.name} is rung for {source.root().name if source else 'nobody'}")
        if leg.call.is_conversation(leg) and not (leg.requested_told or leg.accepted_told):
            leg.requested_told = True
            self._live.emit(event.at, StageName.REQUESTED, leg)

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
        leg = self._live.leg(event.at, event.dest)
        if leg is not None and event.source is not None:
            source = self._live.leg(event.at, event.source)
            self._live.tie(event.at, leg.call, source.call if source else None, "one dials the other")

    def _on_dial_end(self, event: ev.DialEnd) -> None:
        source = self._live.leg(event.at, event.source) if event.source else None
        leg = self._live.leg(event.at, event.dest)
        if leg is None:
            return
        if source is not None:
            self._live.tie(event.at, source.call, leg.call, "one dials the other")
            if leg.origin is Origin.CALLED_IN and leg.source is None and leg is not source:
                # Who picks a ringing call up is named as the one that answered, though nobody ever dialled him.
                self._takes_over(event.at, leg)
        if leg.dial_status != "ANSWER":
            leg.dial_status = event.status
        if event.forward and source is not None:
            self._live.forwards[source.uniqueid] = leg
        if leg.is_phone:
            onward = f", forwarded to {event.forward}" if event.forward else ""
            leg.call.note(event.at, f"{leg.name}: dialling ended with {event.status}{onward}")

    def _on_bridge_enter(self, event: ev.BridgeEnter) -> None:
        leg = self._live.leg(event.at, event.channel)
        if leg is None or not leg.live:
            return
        swapped = self._live.legs.get(event.swap_uniqueid)
        if swapped is not None and swapped is not leg:
            self._live.rooms.leave(event.at, swapped)
        self._live.rooms.enter(event.at, leg, self._live.rooms.of(event.bridge))

    def _on_bridge_leave(self, event: ev.BridgeLeave) -> None:
        leg = self._live.leg(event.at, event.channel)
        if leg is not None and leg.room is not None and leg.room.id == event.bridge.id:
            self._live.rooms.leave(event.at, leg)

    def _on_bridge_destroy(self, event: ev.BridgeDestroy) -> None:
        self._live.rooms.close(event.at, event.bridge.id)

    def _on_bridge_merge(self, event: ev.BridgeMerge) -> None:
        self._live.rooms.merge(event.at, event.to_bridge, event.from_bridge)

    def _on_local_pair(self, event: ev.LocalBridge | ev.LocalOptimizationBegin | ev.LocalOptimizationEnd) -> None:
        one, two = self._live.leg(event.at, event.one), self._live.leg(event.at, event.two)
        if one is None or two is None:
            return
        one.other_half, two.other_half = two, one
        self._live.tie(event.at, one.call, two.call, "they are the halves of a Local channel")

    def _on_blind_transfer(self, event: ev.BlindTransfer) -> None:
        by = self._live.leg(event.at, event.transferer)
        sent = self._live.leg(event.at, event.transferee) if event.transferee else None
        if by is not None:
            by.call.note(event.at, f"{by.name} transfers blindly to {event.extension}: {event.result}")
        if sent is not None:
            self._live.tie(event.at, sent.call, by.call if by else None, "one was transferred by the other")
            if event.result == "Success" and is_number(event.extension):
                sent.redirected_to = event.extension
                sent.sent_by = by
                sent.call.changed()

    def _on_attended_transfer(self, event: ev.AttendedTransfer) -> None:
        first, second = (
            self._live.leg(event.at, event.orig_transferer),
            self._live.leg(event.at, event.second_transferer),
        )
        if first is None or second is None:
            return
        first.call.note(event.at, f"{first.name} transfers after consulting on {second.name}: {event.result}")
        if event.result == "Success":
            self._live.tie(event.at, first.call, second.call, "one was transferred to the other")

    def _on_pickup(self, event: ev.Pickup) -> None:
        leg, target = self._live.leg(event.at, event.channel), self._live.leg(event.at, event.target)
        if leg is None or target is None:
            return
        self._live.tie(event.at, leg.call, target.call, "one picked the other up")
        leg.call.note(event.at, f"{leg.name} picks up what rings at {target.name}")
        self._takes_over(event.at, leg)

    def _takes_over(self, at: float, leg: Leg) -> None:
        leg.took_over = True
        if leg.room is not None:
            # He may talk already, and only now is known to have been accepted.
            self._live.rooms.listen(at, leg.room)

    def _on_parking(self, event: ev.Parking) -> None:
        leg = self._live.leg(event.at, event.parkee)
        if leg is None:
            return
        call = leg.call
        call.note(event.at, f"{leg.name}: {event.kind} at the parking lot")
        parked = event.kind == "parked"
        accepted = call.accepted(call.type(), call.conversations())
        for one in call.legs.values():
            one.is_parked = parked and one is accepted
        if event.retriever is not None:
            retriever = self._live.leg(event.at, event.retriever)
            if retriever is not None:
                self._live.tie(event.at, leg.call, retriever.call, "one retrieves the other from parking")
                self._takes_over(event.at, retriever)

    def _on_hold(self, event: ev.Hold) -> None:
        leg = self._live.leg(event.at, event.channel)
        if leg is not None:
            leg.call.note(event.at, f"{leg.name} {'holds' if event.on else 'takes back'} the other side")

    def _on_varset(self, event: ev.VarSet) -> None:
        leg = self._live.legs.get(event.uniqueid)
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
        leg = self._live.leg(event.at, event.channel)
        if leg is not None:
            leg.move_to(Place.QUEUE if event.kind == "join" else Place.DIALPLAN)
            leg.call.note(event.at, f"{leg.name}: {event.kind} queue {event.queue}")

    def _on_linkedid_end(self, event: ev.LinkedidEnd) -> None:
        for leg in self._live.legs.values():
            if leg.live and leg.linkedid == event.linkedid:
                self._live.condemn(leg, event.at)

    def _on_endpoints(self, event: ev.Endpoints) -> None:
        self.plan.learn_endpoints(event.names)
