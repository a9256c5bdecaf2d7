"""Calls told in events, for tests that need one and don't care how Asterisk came to tell it."""

from __future__ import annotations

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.call import Call, Stage, StageName
from itgrix_kommo.calls.numbers import Employee, NumberPlan
from itgrix_kommo.calls.tracker import Tracker

ANN, BORIS = 9_100_001, 9_100_002
T0 = 1_795_355_557.0


def plan() -> NumberPlan:
    return NumberPlan(
        employees=[Employee(ANN, "101", ("+79161112233",)), Employee(BORIS, "102")],
        trunks=["PJSIP/trunk"],
        region="RU",
    )


def channel(
    name: str, uniqueid: str, linkedid: str = "", *, state: int = ev.DOWN, number: str = "", exten: str = ""
) -> ev.Channel:
    return ev.Channel(name, uniqueid, linkedid or uniqueid, state, number, "", "", "", "ctx", exten)


def inbound(
    client: str = "+79990000001",
    *,
    linkedid: str = "1795355557.1",
    at: float = T0,
    answered: bool = True,
    talk: float = 30.0,
    phone: str = "101",
    did: str = "4957770101",
    recording: str = "",
) -> list[ev.Event]:
    """A client calls; the phone rings for three seconds; it is answered, or the client gives up."""
    first, _, count = linkedid.partition(".")
    leg_id, bridge = f"{first}.{int(count) + 1}", ev.Bridge(f"bridge-{linkedid}", "basic", "simple_bridge", "")

    def caller(state: int) -> ev.Channel:
        return channel(f"PJSIP/trunk-{count}", linkedid, state=state, number=client, exten=did)

    def callee(state: int) -> ev.Channel:
        return channel(f"PJSIP/{phone}-{count}", leg_id, linkedid, state=state, number=did)

    told: list[ev.Event] = [
        ev.Newchannel(at, caller(ev.RING)),
        ev.VarSet(at, linkedid, "MIXMONITOR_FILENAME", recording),
        ev.Newchannel(at, callee(ev.DOWN)),
        ev.DialBegin(at, caller(ev.RING), callee(ev.DOWN), f"{phone}/sip:{phone}@127.0.0.1"),
        ev.Newstate(at, callee(ev.RINGING)),
    ]
    at += 3
    if answered:
        told += [
            ev.Newstate(at, callee(ev.UP)),
            ev.DialEnd(at, caller(ev.RING), callee(ev.UP), "ANSWER", ""),
            ev.Newstate(at, caller(ev.UP)),
            ev.BridgeEnter(at, bridge, callee(ev.UP), ""),
            ev.BridgeEnter(at, bridge, caller(ev.UP), ""),
        ]
        at += talk
        told += [
            ev.HangupRequest(at, caller(ev.UP), 16, soft=False),
            ev.BridgeLeave(at, bridge, caller(ev.UP)),
            ev.BridgeLeave(at, bridge, callee(ev.UP)),
            ev.BridgeDestroy(at, bridge),
        ]
    else:
        told += [
            ev.HangupRequest(at, caller(ev.RING), 16, soft=False),
            ev.DialEnd(at, caller(ev.RING), callee(ev.RINGING), "CANCEL", ""),
        ]
    told += [ev.Hangup(at, callee(ev.UP), 16), ev.Hangup(at, caller(ev.UP), 16)]
    return told


def outbound(client: str = "+79990000001", *, linkedid: str = "1795355557.1", at: float = T0) -> list[ev.Event]:
    """Employee 101 calls a client, who is busy."""
    first, _, count = linkedid.partition(".")
    leg_id = f"{first}.{int(count) + 1}"
    caller = channel(f"PJSIP/101-{count}", linkedid, state=ev.RING, number="101", exten=client)
    callee = channel(f"PJSIP/trunk-{count}", leg_id, linkedid, number=client)
    return [
        ev.Newchannel(at, caller),
        ev.Newchannel(at, callee),
        ev.DialBegin(at, caller, callee, f"{client}@trunk"),
        ev.DialEnd(at + 1, caller, callee, "BUSY", ""),
        ev.Hangup(at + 1, callee, 17),
        ev.Hangup(at + 1, caller, 17),
    ]


def internal(*, linkedid: str = "1795355557.1", at: float = T0) -> list[ev.Event]:
    """101 calls 102, who is busy."""
    caller = channel("PJSIP/101-1", linkedid, state=ev.RING, number="101", exten="102")
    callee = channel("PJSIP/102-1", "1795355557.2", linkedid, number="102")
    return [
        ev.Newchannel(at, caller),
        ev.Newchannel(at, callee),
        ev.DialBegin(at, caller, callee, "102/sip:102@127.0.0.1"),
        ev.DialEnd(at, caller, callee, "BUSY", ""),
        ev.Hangup(at, callee, 17),
        ev.Hangup(at, caller, 17),
    ]


def stages(told: list[ev.Event]) -> list[Stage]:
    """All stages of a story, to its end."""
    tracker = Tracker(plan())
    found = [stage for event in told for stage in tracker.feed(event)]
    return found + tracker.advance(told[-1].at + 60)


def ended(told: list[ev.Event]) -> Call:
    """The one call that a story tells of."""
    (call,) = (stage.call for stage in stages(told) if stage.name is StageName.CALL_ENDED)
    return call
