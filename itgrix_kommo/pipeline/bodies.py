"""What is written to Kommo, from a call: the seed's fields, with what can't be given left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from itgrix_kommo.calls.call import Call, CallType
from itgrix_kommo.calls.outcome import NO_ANSWER
from itgrix_kommo.pipeline.texts import CALL_RESULTS, CONTACT_NAMES, Language

SOURCE = "itgrix_amo"
"""Under which name the calls stand in Kommo; fixed by the contract, for filters and reports go by it."""

ROBOT = 0


def contact_body(
    phone: str, *, field_id: int, responsible_id: int, tags: Sequence[str], language: Language
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": CONTACT_NAMES[language].format(phone=phone),
        "custom_fields_values": [{"field_id": field_id, "values": [{"enum_code": "WORK", "value": phone}]}],
        "tags_to_add": [{"name": tag} for tag in tags],
    }
    if responsible_id != ROBOT:
        body["responsible_user_id"] = responsible_id
    return body


def call_body(call: Call, phone: str, *, responsible_id: int, language: Language) -> dict[str, Any]:
    """The body for ``POST /api/v4/calls``. Without a user it is the robot's call, and nobody's to answer for."""
    outcome = call.outcome or NO_ANSWER
    body: dict[str, Any] = {
        "call_result": CALL_RESULTS[outcome.text][language],
        "call_status": outcome.call_status,
        "created_at": int(call.started_at),
        "created_by": responsible_id,
        "direction": "inbound" if call.type is CallType.INCOMING else "outbound",
        "duration": call.duration,
        "phone": phone,
        "source": SOURCE,
        "uniq": call.id,
    }
    if responsible_id != ROBOT:
        body["responsible_user_id"] = body["call_responsible"] = responsible_id
    return body


def call_note_body(body: Mapping[str, Any], entity_id: int) -> dict[str, Any]:
    """The same call as a note on a card of our choice."""
    note = {
        "entity_id": entity_id,
        "note_type": "call_in" if body["direction"] == "inbound" else "call_out",
        "created_by": body["created_by"],
        "created_at": body["created_at"],
        "params": {
            key: body[key]
            for key in (
                "uniq",
                "duration",
                "source",
                "link",
                "phone",
                "call_result",
                "call_status",
                "call_responsible",
            )
            if key in body
        },
    }
    if "responsible_user_id" in body:
        note["responsible_user_id"] = body["responsible_user_id"]
    return note
