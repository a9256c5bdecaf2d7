"""What each customization is given at the end of a call: the vendor's shapes, filled from the call and from Kommo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from itgrix_kommo.calls.call import Call, CallType
from itgrix_kommo.calls.call_full import call_full
from itgrix_kommo.calls.outcome import NO_ANSWER
from itgrix_kommo.pipeline.progress import Deal, Entity
from itgrix_kommo.pipeline.rules import ROBOT, Rules
from itgrix_kommo.pipeline.texts import CALL_RESULTS, CONTACT_NAMES, LEAD_NAMES, TASK_TEXTS

SOURCE = "itgrix_amo"
"""Under which name the calls stand in Kommo; fixed by the contract, for filters and reports go by it."""


class Params:
    """For one call and the phone that is registered for it; `uniq` is what it was written by before."""

    def __init__(self, call: Call, phone: str, rules: Rules, uniq: str = "") -> None:
        self._call = call
        self._phone = phone
        self._rules = rules
        self._uniq = uniq or rules.uniq(call)
        self._route = rules.route(call)

    def full(self, entity: Entity | None = None, deal: Deal | None = None, link: str = "") -> dict[str, Any]:
        """`call_full`, completed with what only the CRM knows."""
        full = call_full(self._call, self._rules.timezone, self._rules.users)
        full["record"] = link
        if entity is not None:
            full["entity"] = {
                **self._card(entity.id, entity.name, entity.responsible_id, is_new=entity.is_new),
                "type": entity.type,
                "phones": entity.phones,
            }
        if deal is not None:
            full["deal"] = {
                **self._card(deal.id, deal.name, deal.responsible_id, is_new=deal.is_new),
                "type": "leads",
                "phones": [],
                "pipeline_id": deal.pipeline_id,
                "status_id": deal.status_id,
            }
        return full

    def call(self, responsible_id: int, link: str) -> dict[str, Any]:
        outcome = self._call.outcome or NO_ANSWER
        return {
            "call_result": CALL_RESULTS[outcome.text][self._rules.language],
            "call_status": outcome.call_status,
            "created_at": int(self._call.started_at),
            "created_by": responsible_id,
            "direction": "inbound" if self._call.type is CallType.INCOMING else "outbound",
            "duration": self._call.duration,
            "link": link,
            "phone": self._phone,
            **_responsible(responsible_id),
            "source": SOURCE,
        }

    def contact(self, responsible_id: int) -> dict[str, Any]:
        return {**self._contact(), **_responsible(responsible_id)}

    def lead(self, entity: Entity, responsible_id: int) -> dict[str, Any]:
        contacts = [{"id": entity.id}] if entity.type == "contacts" else []
        return {
            "_embedded": {"contacts": contacts, "tags": self._tag_objects()},
            "name": self._lead_name(),
            "pipeline_id": self._route.pipeline_id,
            **_responsible(responsible_id),
            "status_id": self._route.status_id,
        }

    def unsorted(self, link: str) -> dict[str, Any]:
        began = int(self._call.started_at)
        return {
            "_embedded": {
                "contacts": [self._contact()],
                "leads": [
                    {"name": self._lead_name(), "pipeline_id": self._route.pipeline_id, "tags": self._tag_objects()}
                ],
            },
            "created_at": began,
            "metadata": {
                "called_at": began,
                "duration": self._call.duration,
                "from": self._phone,
                "is_call_event_needed": False,
                "link": link,
                "phone": self._called(),
                "service_code": SOURCE,
                "uniq": self._uniq,
            },
            "pipeline_id": self._route.pipeline_id,
            "source_name": SOURCE,
            "source_uid": self._uniq,
        }

    def update(self, card_id: int, responsible_id: int) -> dict[str, Any]:
        return {"id": card_id, **_responsible(responsible_id)}

    def task(self, entity: Entity, deal: Deal | None, responsible_id: int, due: int) -> dict[str, Any]:
        name = entity.name or CONTACT_NAMES[self._rules.language].format(phone=self._phone)
        missed = self._call.type is CallType.INCOMING
        text = TASK_TEXTS["missed" if missed else "unanswered"][self._rules.language]
        return {
            "complete_till": due,
            "created_by": ROBOT,
            "entity_id": deal.id if deal else entity.id,
            "entity_type": "leads" if deal else entity.type,
            "is_completed": False,
            **_responsible(responsible_id),
            "task_type": self._rules.business.tasks.task_type,
            "text": text.format(name=name, phone=self._phone),
        }

    def _contact(self) -> dict[str, Any]:
        field = {"field_id": self._rules.phone_field_id, "values": [{"enum_code": "WORK", "value": self._phone}]}
        return {
            "custom_fields_values": [field],
            "name": CONTACT_NAMES[self._rules.language].format(phone=self._phone),
            "tags": list(self._route.tags),
        }

    def _lead_name(self) -> str:
        missed = "" if self._call.was_answered else "missed "
        direction = "incoming" if self._call.type is CallType.INCOMING else "outgoing"
        return f"{self._phone} - {LEAD_NAMES[missed + direction][self._rules.language]}"

    def _tag_objects(self) -> list[dict[str, str]]:
        return [{"name": tag} for tag in self._route.tags]

    def _called(self) -> str:
        """The number that the client called: ours."""
        return self._call.did or self._call.channel.to.number

    def _card(self, card_id: int, name: str, responsible_id: int, *, is_new: bool) -> dict[str, Any]:
        return {
            "id": card_id,
            "name": name,
            "is_new": is_new,
            "responsible": self._user(responsible_id),
            "responsible_id": responsible_id,
        }

    def _user(self, user_id: int) -> dict[str, Any] | None:
        if user_id == ROBOT:
            return None
        phones: Sequence[str] = self._rules.phones.get(user_id, ())
        return {"id": user_id, "name": self._rules.users.get(user_id, ""), "phones": list(phones)}


def _responsible(user_id: int) -> dict[str, int]:
    """The robot can be responsible for nothing: then the field is left out."""
    return {} if user_id == ROBOT else {"responsible_user_id": user_id}
