"""The frozen view of a live call, as a stage shows it to the rest of the connector."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from itgrix_kommo.calls import outcome as outcomes
from itgrix_kommo.calls.call import Call, CallType, ChannelView, Conversation, Number, State, User
from itgrix_kommo.calls.leg import Leg, Origin
from itgrix_kommo.calls.live import LiveCall
from itgrix_kommo.calls.numbers import Kind, is_number

NO_NUMBER = Number("", "", Kind.UNKNOWN)


def freeze(call: LiveCall, ended_at: float | None) -> Call:
    """`ended_at` is given when the call is over; until then there is no outcome and no duration."""
    call_type = call.type()
    client_leg = call.client_leg()
    client = _client(call, client_leg, call_type)
    caller, main = call.caller(), call.main
    called_in = client_leg if client_leg is not None and client_leg.origin is Origin.CALLED_IN else None
    did = called_in.exten if called_in else ""
    asked_for = client if call_type is CallType.OUTGOING else _number(call, did or caller.exten)
    own = _employee(call, caller) if call.is_internal(caller) else client
    legs = call.conversations()
    accepted = call.accepted(call_type, legs)
    conversations = tuple([_conversation(call, leg, call_type, client) for leg in legs])
    talk = accepted.talk(outside=call_type is not CallType.LOCAL) if accepted else None
    ended = ended_at is not None
    rung = [one.user for one in conversations if one.user is not None]
    return Call(
        id=call.id,
        aliases=frozenset(call.aliases),
        type=call_type,
        state=_state(ended=ended, talking=any(leg.talking for leg in legs)),
        channel=_channel(call, main, call_type, own, asked_for),
        conversations=conversations,
        active_conversation_id=_active(legs),
        accepted_id=accepted.uniqueid if accepted else "",
        client=client,
        did=did,
        trunk=_trunk(client_leg).number,
        responsible=_user(call, accepted) if accepted else None,
        rung_last=rung[-1] if rung else _user(call, caller),
        started_at=call.started_at,
        ended_at=ended_at,
        duration=round(talk[1] - talk[0]) if talk and talk[1] is not None else 0,
        outcome=call.outcome(call_type, accepted) if ended else None,
        is_ivr=ended and call.is_ivr(call_type, accepted),
        timeline=tuple(call.notes),
    )


def decided(call: Call) -> str:
    """The last line of an ended call's timeline: what it is told as, and why."""
    accepted = call.conversation(call.accepted_id)
    if accepted is not None:
        why = f"{accepted.channel.name} talked last"
    elif call.outcome is outcomes.LEFT_MESSAGE:
        why = "nobody talked, the mailbox took a message"
    else:
        why = f"nobody talked, {len(call.conversations)} rung"
    whose = f"user {call.responsible.id}" if call.responsible else "no user"
    told = call.outcome.text if call.outcome else ""
    return f"told as {call.type.value}, {told}{', in a menu' if call.is_ivr else ''}: {why}; {whose}"


def _conversation(call: LiveCall, leg: Leg, call_type: CallType, client: Number) -> Conversation:
    """One that is over is seen as it was seen last, unless the call itself is seen otherwise by now."""
    if leg.live:
        return _seen(call, leg, call_type, client)
    seen_with = (call.id, call_type, client, leg.took_over, len(leg.talks), leg.recording, leg.dial_status)
    past = call.past.get(leg.uniqueid)
    if past is None or past[0] != seen_with:
        past = call.past[leg.uniqueid] = (seen_with, _seen(call, leg, call_type, client))
    return past[1]


def _seen(call: LiveCall, leg: Leg, call_type: CallType, client: Number) -> Conversation:
    """Its two sides: who talked with the client talked with the client, whoever had him rung."""
    asker = leg.root()
    outside = call_type is not CallType.LOCAL
    client_talk = leg.talk(outside=outside)
    leg_type = call_type
    if not call.is_internal(leg):
        from_ = _caller(call, asker, client)
        to = _number(call, call.side(leg).far_number)
    else:
        from_ = client if outside and client_talk is not None else _caller(call, asker, client)
        to = _employee(call, leg, named=False)
        if from_.kind is Kind.INTERNAL and from_ is not client:
            leg_type = CallType.LOCAL
    return Conversation(
        channel=_channel(call, leg, leg_type, from_, to),
        user=_user(call, leg),
        is_parked=leg.is_parked,
        client_talk=client_talk,
        recording=leg.recording or asker.recording or _of_client(call, client_talk),
    )


def _of_client(call: LiveCall, client_talk: tuple[float, float | None] | None) -> str:
    """What was recorded on the client's own channel goes on whoever he is handed over to."""
    client = call.client_leg()
    return client.recording if client is not None and client_talk is not None else ""


def _caller(call: LiveCall, asker: Leg, client: Number) -> Number:
    """Who had a phone rung: an employee (also one who consults through a Local channel), else the client."""
    if asker.is_phone:
        return _employee(call, asker) if call.is_internal(asker) else client
    number = asker.caller_number
    return _number(call, number, asker.caller_name) if call.plan.is_internal(number) else client


def _employee(call: LiveCall, leg: Leg, *, named: bool = True) -> Number:
    return Number(call.side(leg).extension, leg.caller_name if named else "", Kind.INTERNAL)


def _channel(call: LiveCall, leg: Leg, call_type: CallType, from_: Number, to: Number) -> ChannelView:
    extra: dict[str, Any] = {}
    if leg.ended_at is not None:
        extra = {"hangupcause": leg.cause, "hangupsource": leg.name if leg.hung_up_at is not None else ""}
        if leg.dial_status:
            extra["dialstatus"] = leg.dial_status
    return ChannelView(
        uniqueid=leg.uniqueid,
        name=leg.name,
        is_primary=leg.uniqueid == call.id,
        type=call_type,
        state=_state(ended=not leg.live, talking=leg.talking),
        from_=from_,
        to=to,
        trunk=_trunk(leg if not call.is_internal(leg) else call.client_leg()),
        started_at=leg.started_at,
        answered_at=leg.first_talk,
        ended_at=leg.ended_at,
        extra=extra,
    )


def _state(*, ended: bool, talking: bool) -> State:
    if ended:
        return State.ENDED
    return State.TALKING if talking else State.RINGING


def _active(legs: list[Leg]) -> str:
    talking = [leg.uniqueid for leg in legs if leg.talking]
    ringing = [leg.uniqueid for leg in legs if leg.live]
    return (talking or ringing or [""])[-1]


def _client(call: LiveCall, leg: Leg | None, call_type: CallType) -> Number:
    if call_type is CallType.LOCAL:
        return NO_NUMBER
    number = call.client_number()
    name = leg.caller_name if leg is not None and leg.origin is Origin.CALLED_IN else ""
    return Number(number, name, call.plan.kind(number))


def _number(call: LiveCall, number: str, name: str = "") -> Number:
    return Number(number, name, call.plan.kind(number)) if is_number(number) else NO_NUMBER


def _trunk(outside: Leg | None) -> Number:
    return NO_NUMBER if outside is None else _trunk_number(outside.endpoint)


@lru_cache(maxsize=256)
def _trunk_number(endpoint: str) -> Number:
    return Number(endpoint, "", Kind.TRUNK)


def _user(call: LiveCall, leg: Leg) -> User | None:
    owner = call.side(leg).owner
    return None if owner is None else User(owner.user_id, owner.phones)
