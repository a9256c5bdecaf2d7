"""Which ended calls go to the CRM, and as the row that is kept before anything is sent."""

from __future__ import annotations

from typing import Literal

from pydantic import TypeAdapter

from itgrix_kommo.calls.call import Call, CallType, Stage, StageName
from itgrix_kommo.calls.numbers import NumberPlan, e164
from itgrix_kommo.pipeline.rules import over_there
from itgrix_kommo.storage.registrations import NewRegistration, State

CALL: TypeAdapter[Call] = TypeAdapter(Call)
"""A call as the JSON that is kept of it, and back."""


EARLY = "#early"
"""Ends the id of a row that only makes contact and lead, while the call goes on."""

_EARLY_AT = {"ringing": StageName.REQUESTED, "answered": StageName.ACCEPTED}


def registration_of(call: Call, plan: NumberPlan) -> NewRegistration | None:
    """The row for an ended call; None where the call is no business of the CRM's.

    What another PBX of ours registers is skipped here and now: a node that stands in for us knows its own trunks only.
    """
    if call.type not in {CallType.INCOMING, CallType.OUTGOING}:
        return None
    phone = plan.client_phone(call.client.number)
    reason = over_there(call, plan.peer_trunks)
    return NewRegistration(
        call_id=call.id,
        aliases=call.aliases,
        # Who hides his number is told from everybody else: a customization may still name him.
        client=client_key(phone, plan) if phone else call.id,
        call=CALL.dump_python(call, mode="json"),
        state=State.SKIPPED if reason else State.WAITING,
        reason=reason,
    )


def why_not(call: Call) -> str:
    """Why `registration_of` has no row for it."""
    return "between employees" if call.type is CallType.LOCAL else "between two who are no employees"


def early_registration_of(
    stage: Stage, plan: NumberPlan, create_at: Literal["ringing", "answered", "end"]
) -> NewRegistration | None:
    """The row that makes contact and lead before the call has ended; None where that is not wanted at this stage."""
    call = stage.call
    if stage.name is not _EARLY_AT.get(create_at) or call.type not in {CallType.INCOMING, CallType.OUTGOING}:
        return None
    phone = plan.client_phone(call.client.number)
    if not phone or over_there(call, plan.peer_trunks):
        return None
    return NewRegistration(
        call_id=call.id + EARLY,
        aliases=frozenset({call.id + EARLY}),
        client=client_key(phone, plan),
        call=CALL.dump_python(call, mode="json"),
    )


def client_key(phone: str, plan: NumberPlan) -> str:
    """The same for all ways of writing a client's number, so that his calls keep their order."""
    return e164(phone, plan.region) or phone
