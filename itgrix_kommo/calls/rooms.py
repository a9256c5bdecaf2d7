"""Rooms: the bridges of Asterisk, and who hears whom in them, through Local channels into the next one.

Who meet in a room become one call, save where that would make one call of several clients: an agent who is logged in
waits on one channel for all of his clients, and into a conference many may come. There the employee visits each
client's call: a leg of his stands in it as long as they are in one room.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from itgrix_kommo.calls.events import Bridge
from itgrix_kommo.calls.leg import Leg

_AGENT_POOL = "AgentPool"
"""Who makes the bridge in which agents wait (app_agent_pool)."""


@dataclass(slots=True, eq=False)
class Room:
    """A bridge and who is in it. In a holding room (parking, a queue's music) nobody hears anybody; in one of `agents`
    those wait who are logged in.
    """

    id: str
    holding: bool
    agents: bool
    conference: bool
    legs: dict[str, Leg] = field(default_factory=dict)


class Rooms:
    """`on_meeting` is told of two legs in one room, before they hear each other; `on_visit` where they stay two calls,
    of the employee's leg and of the one he visits, and `on_parting` of his and of the one that stood for it there;
    `on_talk` of all who now hear each other, and of those of them who say their first word.
    """

    def __init__(
        self,
        *,
        on_meeting: Callable[[float, Leg, Leg], None],
        on_visit: Callable[[float, Leg, Leg], None],
        on_parting: Callable[[float, Leg, Leg], None],
        on_talk: Callable[[float, list[Leg], list[Leg]], None],
    ) -> None:
        self._on_meeting = on_meeting
        self._on_visit = on_visit
        self._on_parting = on_parting
        self._on_talk = on_talk
        self._rooms: dict[str, Room] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def of(self, bridge: Bridge) -> Room:
        """The room of this bridge, made if it is new."""
        room = self._rooms.get(bridge.id)
        if room is None:
            holding = bridge.technology.startswith("holding")
            conference = bridge.type != "basic" and bridge.technology == "softmix"
            agents = bridge.creator == _AGENT_POOL
            room = self._rooms[bridge.id] = Room(bridge.id, holding=holding, agents=agents, conference=conference)
        return room

    def enter(self, at: float, leg: Leg, room: Room) -> None:
        if leg.room is not None and leg.room is not room:
            self.leave(at, leg)
        leg.room = room
        room.legs[leg.uniqueid] = leg
        leg.call.of_agent |= room.agents
        if room.holding:
            return
        for other in list(room.legs.values()):
            self._meet(at, room, leg, other)
        self.listen(at, room)

    def _meet(self, at: float, room: Room, one: Leg, other: Leg) -> None:
        agents = one.call.of_agent or other.call.of_agent
        clients = room.conference and one.call.client_leg() and other.call.client_leg()
        if one.call is other.call or not (agents or clients):
            self._on_meeting(at, one, other)
            return
        for guest, host in ((one, other), (other, one)):
            comes = guest.call.of_agent if agents else guest.call.is_internal(guest)
            if comes and guest.is_phone and not host.call.of_agent:
                self._on_visit(at, guest, host)

    def leave(self, at: float, leg: Leg) -> None:
        room = leg.room
        if room is None:
            return
        leg.room = None
        room.legs.pop(leg.uniqueid, None)
        leg.disconnect(at)
        calls_left = {other.call.id for other in room.legs.values()}
        for other in (leg, *room.legs.values()):
            for visit in [visit for visit in other.visits if other is leg or visit.call.id not in calls_left]:
                self._on_parting(at, other, visit)
        if room.legs:
            self.listen(at, room)
        else:
            # An empty one is forgotten: its end may never be told, and who enters it again tells what it is.
            self._rooms.pop(room.id, None)
        if leg.is_local and leg.other_half is not None and leg.other_half.room is not None:
            self.listen(at, leg.other_half.room)

    def close(self, at: float, bridge_id: str) -> None:
        room = self._rooms.pop(bridge_id, None)
        if room is not None:
            for leg in list(room.legs.values()):
                self.leave(at, leg)

    def merge(self, at: float, into: Bridge, gone: Bridge) -> None:
        room = self._rooms.get(gone.id)
        if room is not None:
            for leg in list(room.legs.values()):
                self.enter(at, leg, self.of(into))

    def listen(self, at: float, room: Room) -> None:
        """Find out who hears whom from this room on."""
        phones = [leg for leg in self._within_earshot(room) if leg.is_up]
        if len(phones) < 2:
            for leg in phones:
                leg.disconnect(at)
            return
        outside = any(not leg.call.is_internal(leg) for leg in phones)
        self._on_talk(at, phones, [leg for leg in phones if leg.connect(at, outside=outside)])

    @staticmethod
    def _within_earshot(room: Room) -> list[Leg]:
        phones, seen, rooms = [], {room.id}, [room]
        while rooms:
            here = rooms.pop()
            if here.holding:
                continue
            for leg in here.legs.values():
                if leg.is_phone:
                    phones.append(leg)
                elif leg.other_half is not None and leg.other_half.room is not None:
                    beyond = leg.other_half.room
                    if beyond.id not in seen:
                        seen.add(beyond.id)
                        rooms.append(beyond)
        return phones
