"""Asterisk's own list of what lives, held against what was heard: after a gap, and at start."""

from __future__ import annotations

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.leg import PLACE_OF_APPLICATION, Leg, Origin, Place
from itgrix_kommo.calls.live_calls import LiveCalls, age
from itgrix_kommo.calls.numbers import dialled_device

_DIALLING = frozenset({Place.RINGING, Place.QUEUE})


def resync(calls: LiveCalls, event: ev.Resync) -> None:
    """What we thought alive and is not has ended unseen; what lives and is unknown began unseen."""
    exists = {live.channel.uniqueid for live in event.channels}
    for lost in [leg for leg in calls.legs.values() if leg.live and leg.uniqueid not in exists]:
        if lost.heard_at < event.asked_at:
            calls.end_unseen(lost, max(lost.heard_at, event.blind_since or 0.0), event.at)
    found: list[tuple[Leg, ev.LiveChannel]] = []
    for live in sorted(event.channels, key=lambda live: age(live.channel.uniqueid)):
        known = calls.legs.get(live.channel.uniqueid)
        if known is not None and known.heard_at < event.asked_at and not live.bridge_id:
            calls.rooms.leave(max(known.heard_at, event.blind_since or 0.0), known)
        leg = _channel(calls, event.at, live)
        if leg is not None:
            found.append((leg, live))
    dialling = [(leg, live) for leg, live in found if leg.place in _DIALLING]
    for leg, live in found:
        if live.application.startswith(("AppDial", "AppQueue")) and leg.rung_at is None:
            _dialled(leg, dialling)
    # Who hears whom is asked last: by then it is known who rang whom.
    bridges = {bridge.id: bridge for bridge in event.bridges}
    for leg, live in found:
        if bridge := bridges.get(live.bridge_id):
            calls.rooms.enter(event.at, leg, calls.rooms.of(bridge))


def _channel(calls: LiveCalls, at: float, live: ev.LiveChannel) -> Leg | None:
    known = live.channel.uniqueid in calls.legs
    leg = calls.leg(at if known else live.started_at, live.channel)
    if leg is None or not leg.live:
        return None
    leg.heard_at = at
    if not known:
        leg.call.note(at, f"{leg.name} exists; its beginning was not seen")
    leg.call.of_agent |= live.application == "AgentLogin"
    if place := PLACE_OF_APPLICATION.get(live.application.lower()):
        leg.move_to(place)
    if leg.is_local and leg.other_half is None:
        _pair_by_name(calls, at, leg)
    return leg


def _dialled(leg: Leg, dialling: list[tuple[Leg, ev.LiveChannel]]) -> None:
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


def _pair_by_name(calls: LiveCalls, at: float, leg: Leg) -> None:
    """The names of the halves of a Local channel differ in their last digit only."""
    for other in calls.legs.values():
        if other is not leg and other.live and other.name[:-1] == leg.name[:-1]:
            leg.other_half, other.other_half = other, leg
            calls.tie(at, leg.call, other.call, "they are the halves of a Local channel")
            return
