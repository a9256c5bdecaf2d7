"""The truth about a scene's calls, as a person tells it from the scene's story, and what the tracker told instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from itgrix_kommo.calls.call import Call, CallType, Stage, StageName
from itgrix_kommo.calls.events import Event
from itgrix_kommo.calls.live_calls import age
from itgrix_kommo.calls.numbers import Employee, NumberPlan
from itgrix_kommo.calls.tracker import Tracker

__all__ = [
    "CLIENT",
    "CLIENT2",
    "HIDDEN",
    "Ending",
    "Truth",
    "incoming",
    "internal",
    "outgoing",
    "understood",
    "unknown",
]

CLIENT, CLIENT2, HIDDEN = "CLIENT", "CLIENT2", ""
"""The clients that a scene asked the lab for, in their order; whoever it named by number is told by number."""

MOBILES = {101: "+79990000101", 102: "+79990000102", 204: "+79990000204"}
"""Mobile phones that are extensions of these employees; of 103's, +79990000103, the office does not know."""


class Ending(NamedTuple):
    """`result` is SIP-like, `status` is Kommo's call_status."""

    result: int
    status: int


TALKED = Ending(200, 4)
LEFT_MESSAGE = Ending(200, 1)
NO_ANSWER = Ending(408, 6)
GAVE_UP = Ending(487, 6)
REJECTED = Ending(603, 6)
BUSY = Ending(486, 7)
UNREACHABLE = Ending(480, 3)
CONGESTION = Ending(503, 3)
WRONG_NUMBER = Ending(404, 5)


@dataclass(frozen=True, slots=True)
class Truth:
    """One call.

    `rang`: whose phones took part, each as often as it was rung, with a plus where it was answered, sorted. `last`:
    whose conversation was the last accepted one. `user`: who is responsible for it; of a missed call whose phone rang
    last; users of the office have their extension for an id. `recorded`: that conversation has a recording. `lasts`:
    seconds between which its duration lies, `name` the client's, both only where the scene makes a point of them.
    """

    type: CallType
    client: str
    did: str
    rang: str
    ending: Ending
    last: str = ""
    user: int | None = None
    ivr: bool = False
    recorded: bool = False
    lasts: tuple[float, float] | None = None
    name: str | None = None


def incoming(
    client: str,
    did: str,
    rang: str,
    ending: Ending,
    *,
    last: str = "",
    user: int | None = None,
    ivr: bool = False,
    recorded: bool = False,
    lasts: tuple[float, float] | None = None,
    name: str | None = None,
) -> Truth:
    return Truth(CallType.INCOMING, client, did, _sorted(rang), ending, last, user, ivr, recorded, lasts, name)


def outgoing(
    client: str, rang: str, ending: Ending, *, last: str = "", user: int | None = None, recorded: bool = False
) -> Truth:
    return Truth(CallType.OUTGOING, client, "", _sorted(rang), ending, last, user, recorded=recorded)


def internal(rang: str, ending: Ending, *, last: str = "", user: int | None = None) -> Truth:
    """Between employees: nothing of it goes to the CRM."""
    return Truth(CallType.LOCAL, "", "", _sorted(rang), ending, last, user)


def unknown(client: str, did: str, rang: str, ending: Ending, *, last: str = "") -> Truth:
    """Between two who are no employees: nothing of it goes to the CRM."""
    return Truth(CallType.UNKNOWN, client, did, _sorted(rang), ending, last)


def office() -> NumberPlan:
    """The lab's PBX as a configuration describes it; without an outside prefix, which is to be found out."""
    return NumberPlan(
        employees=[
            Employee(extension, str(extension), (MOBILES[extension],) if extension in MOBILES else ())
            for extension in (*range(101, 108), *range(201, 207))
        ],
        trunks=["PJSIP/trunk", "PJSIP/trunk2"],
        region="RU",
    )


def understood(events: Iterable[Event]) -> list[Call]:
    """The calls that these events tell of, by their beginning. Raises AssertionError where stages contradict them."""
    tracker = Tracker(office())
    stages: list[Stage] = []
    last = 0.0
    for event in events:
        last = event.at
        stages += tracker.feed(event)
    stages += tracker.advance(last + 3600.0)
    assert not tracker.calls, f"still alive an hour after the last event: {list(tracker.calls)}"
    calls = [stage.call for stage in stages if stage.name is StageName.CALL_ENDED]
    _check_stages(stages, calls)
    return sorted(calls, key=lambda call: (call.started_at, age(call.id)))


def _check_stages(stages: Sequence[Stage], calls: Sequence[Call]) -> None:
    """Every conversation is asked for before it is accepted, accepted before it ends, and ends once."""
    final = {alias: call.id for call in calls for alias in call.aliases}
    told: dict[tuple[str, str], list[StageName]] = {}
    for stage in stages:
        if stage.conversation_id:
            told.setdefault((final[stage.call.id], stage.conversation_id), []).append(stage.name)
    for call_id, conversation in [(call.id, one) for call in calls for one in call.conversations]:
        names = told.pop((call_id, conversation.id), [])
        order = [StageName.REQUESTED, StageName.ACCEPTED, StageName.ENDED]
        assert names == [name for name in order if name in names], (conversation.channel.name, names)
        assert names[-1:] == [StageName.ENDED], (conversation.channel.name, names)
        assert conversation.was_answered == (StageName.ACCEPTED in names), (conversation.channel.name, names)
    assert not told, f"stages of conversations that no ended call has: {told}"
    aliases = [alias for call in calls for alias in call.aliases]
    assert len(aliases) == len(set(aliases)), "two calls share a channel or linkedid"


def told(calls: Iterable[Call], clients: Sequence[str], truths: Sequence[Truth]) -> list[Truth]:
    """The calls in the words of the truths they are to be compared with; `clients` are the numbers behind CLIENT …"""
    symbols = {number: f"CLIENT{place}" if place > 1 else CLIENT for place, number in enumerate(clients, 1)}
    found = [_told(call, symbols) for call in calls]
    return [_as_precise_as(wanted, one) for one, wanted in zip(found, truths, strict=False)] + found[len(truths) :]


def _told(call: Call, symbols: dict[str, str]) -> Truth:
    rang = {one.id: symbols.get(one.channel.to.number, one.channel.to.number) for one in call.conversations}
    accepted = call.conversation(call.accepted_id)
    user = call.responsible if accepted else call.rung_last
    assert call.outcome is not None, "an ended call without an outcome"
    return Truth(
        type=call.type,
        client=symbols.get(call.client.number, call.client.number),
        did=call.did,
        rang=_sorted(" ".join(rang[one.id] + "+" * one.was_answered for one in call.conversations)),
        ending=Ending(call.outcome.result, call.outcome.call_status),
        last=rang.get(call.accepted_id, ""),
        user=user.id if user else None,
        ivr=call.is_ivr,
        recorded=bool(accepted and accepted.recording),
        lasts=(call.duration, call.duration),
        name=call.client.name,
    )


def _as_precise_as(wanted: Truth, found: Truth) -> Truth:
    """What the truth says nothing of is left out, and a duration within its bounds is as good as the bounds."""
    lasts = found.lasts
    if wanted.lasts is None and (found.ending == TALKED or lasts == (0, 0)):
        lasts = None
    elif wanted.lasts and lasts and wanted.lasts[0] <= lasts[0] <= wanted.lasts[1]:
        lasts = wanted.lasts
    return replace(found, lasts=lasts, name=None if wanted.name is None else found.name)


def _sorted(rang: str) -> str:
    return " ".join(sorted(rang.split()))
