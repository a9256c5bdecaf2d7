"""What a customization would be given for a call that was kept: for trying files out, without asking Kommo."""

from __future__ import annotations

from typing import Any

from itgrix_kommo.calls.call import Call, StageName
from itgrix_kommo.config import Hook
from itgrix_kommo.pipeline.params import Params
from itgrix_kommo.pipeline.progress import Entity, Progress
from itgrix_kommo.pipeline.rules import Rules

UNKNOWN = Entity(type="contacts", id=0, is_new=True)
"""Stands in for a client whom the registration has not found or made."""


def params_for(hook: Hook, call: Call, progress: Progress, raw_phone: str, rules: Rules) -> dict[str, Any] | None:
    """The payload at the call's end; None where no call leads to this customization, or this one has no recording.

    Whom the registration found or made is in it as `progress` has it; nothing is asked anew.
    """
    params = Params(call, progress.phone if progress.phone is not None else raw_phone, rules)
    entity, deal, link = progress.entity or UNKNOWN, progress.deal, progress.link
    responsible = rules.responsible(call, progress.entity)
    full = params.full(progress.entity, deal, link)
    unknown = {"call_full": {**full, "entity": None}}
    known = {"call_full": full}
    staged = {**known, "call_stage": StageName.CALL_ENDED.value}
    due = rules.due(call.ended_at or call.started_at)
    lead_id, lead_responsible = (deal.id, deal.responsible_id) if deal else (0, 0)
    given: dict[Hook, dict[str, Any]] = {
        "need_registration": staged,
        "process_client_phone": {"phone": raw_phone, **staged},
        "process_call_params": {**params.call(responsible, link), **known},
        "process_contact_creation_params": {**params.contact(responsible), **unknown},
        "process_lead_creation_params": {**params.lead(entity, responsible), **known},
        "process_unsorted_creation_params": {**params.unsorted(link), **unknown},
        "process_contact_update_params": {**params.update(entity.id, entity.responsible_id or responsible), **known},
        "process_lead_update_params": {**params.update(lead_id, lead_responsible or responsible), **known},
        "process_task_creation_params": {**params.task(entity, deal, responsible, due), **known},
        "post_registration": known,
    }
    conversation = call.conversation(call.accepted_id)
    if conversation is not None and conversation.recording:
        recorded = {"path": conversation.recording, "conversation_id": conversation.id}
        given["process_record_file_path"] = {**recorded, **known}
    return given.get(hook)
