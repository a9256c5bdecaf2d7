"""A call that crosses two PBXs over a trunk between them: each hears its half, one of them registers it."""

from __future__ import annotations

import pytest

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.call import Call, CallType, StageName
from itgrix_kommo.calls.numbers import Employee, NumberPlan
from itgrix_kommo.calls.tracker import Tracker
from itgrix_kommo.config import Business
from itgrix_kommo.pipeline.intake import registration_of
from itgrix_kommo.pipeline.rules import Rules
from itgrix_kommo.storage.registrations import State
from tests.story import T0, channel

CLIENT, CARLA = "+79990000001", 9_100_003
BRIDGE = ev.Bridge("between", "basic", "simple_bridge", "")


def half(caller: str, callee: str, *, number: str, dialled: str, target: str, shown: str = "") -> Call:
    """Its half as one PBX hears it: who calls rings the other, they talk for twenty seconds.

    `shown` is who the other one says that he is, once he has answered.
    """

    def first(state: int) -> ev.Channel:
        return channel(f"{caller}-1", "1795355557.1", state=state, number=number, exten=dialled)

    def second(state: int) -> ev.Channel:
        known_as = shown if shown and state == ev.UP else target.partition("@")[0]
        return channel(f"{callee}-2", "1795355557.2", "1795355557.1", state=state, number=known_as)

    tracker = Tracker(NumberPlan(employees=[Employee(CARLA, "201")], trunks=["PJSIP/carrier"], region="RU"))
    told: list[ev.Event] = [
        ev.Newchannel(T0, first(ev.RING)),
        ev.Newchannel(T0, second(ev.DOWN)),
        ev.DialBegin(T0, first(ev.RING), second(ev.DOWN), target),
        ev.Newstate(T0 + 3, second(ev.UP)),
        ev.DialEnd(T0 + 3, first(ev.RING), second(ev.UP), "ANSWER", ""),
        ev.Newstate(T0 + 3, first(ev.UP)),
        ev.BridgeEnter(T0 + 3, BRIDGE, second(ev.UP), ""),
        ev.BridgeEnter(T0 + 3, BRIDGE, first(ev.UP), ""),
        ev.BridgeLeave(T0 + 23, BRIDGE, first(ev.UP)),
        ev.BridgeLeave(T0 + 23, BRIDGE, second(ev.UP)),
        ev.BridgeDestroy(T0 + 23, BRIDGE),
        ev.Hangup(T0 + 23, second(ev.UP), 16),
        ev.Hangup(T0 + 23, first(ev.UP), 16),
    ]
    stages = [stage for event in told for stage in tracker.feed(event)]
    stages += tracker.advance(T0 + 60)
    (ended,) = (stage.call for stage in stages if stage.name is StageName.CALL_ENDED)
    return ended


def why_unlisted(call: Call, peer: str) -> str:
    rules = Rules(Business(), "en", 801, 7001, 1, peer_trunks=(peer,))
    return rules.unlisted(call, call.client.number)


INCOMING = (
    half("PJSIP/carrier", "PJSIP/pbx2", number=CLIENT, dialled="4957770101", target="201@pbx2"),
    half("PJSIP/pbx1", "PJSIP/201", number=CLIENT, dialled="201", target="201/sip:201@127.0.0.1"),
)
OUTGOING = (
    half("PJSIP/pbx2", "PJSIP/carrier", number="201", dialled=CLIENT, target=f"{CLIENT}@carrier"),
    half("PJSIP/201", "PJSIP/pbx1", number="201", dialled=CLIENT, target=f"{CLIENT}@pbx1"),
)


@pytest.mark.parametrize(("at_carrier", "behind"), [INCOMING, OUTGOING], ids=["incoming", "outgoing"])
class TestOneCall:
    def test_the_pbx_that_the_client_is_at_registers_it_with_who_talked(self, at_carrier: Call, behind: Call) -> None:
        assert at_carrier.type is behind.type
        assert at_carrier.type in {CallType.INCOMING, CallType.OUTGOING}
        assert (at_carrier.client.number, at_carrier.was_answered) == (CLIENT, True)
        assert at_carrier.responsible is not None
        assert at_carrier.responsible.id == CARLA
        assert why_unlisted(at_carrier, "PJSIP/pbx2") == ""

    def test_a_node_that_stands_in_for_the_other_one_is_not_even_asked(self, at_carrier: Call, behind: Call) -> None:
        peers = NumberPlan(peer_trunks=["PJSIP/pbx1"], region="RU")
        kept = registration_of(behind, peers)
        assert kept is not None
        assert (kept.state, kept.reason) == (State.SKIPPED, "the PBX at the other end of PJSIP/pbx1 registers it")
        kept = registration_of(at_carrier, peers)
        assert kept is not None
        assert kept.state is State.WAITING

    def test_the_other_one_does_not(self, at_carrier: Call, behind: Call) -> None:
        assert at_carrier.client.number == behind.client.number
        assert why_unlisted(behind, "PJSIP/pbx1") == "the PBX at the other end of PJSIP/pbx1 registers it"


class TestWhoAnsweredAtAGroup:
    def test_is_told_by_the_connected_line(self) -> None:
        call = half("PJSIP/carrier", "PJSIP/pbx2", number=CLIENT, dialled="4957770101", target="600@pbx2", shown="201")
        assert call.responsible is not None
        assert call.responsible.id == CARLA

    def test_is_nobody_where_it_says_nothing(self) -> None:
        call = half("PJSIP/carrier", "PJSIP/pbx2", number=CLIENT, dialled="4957770101", target="600@pbx2")
        assert (call.was_answered, call.responsible) == (True, None)

    def test_is_who_was_asked_for_whatever_it_says_afterwards(self) -> None:
        call = half("PJSIP/carrier", "PJSIP/pbx2", number=CLIENT, dialled="4957770101", target="201@pbx2", shown="600")
        assert call.responsible is not None
        assert call.responsible.id == CARLA
