"""What a change looks like in a webhook: Kommo's older vocabulary, to be flattened into bracket keys."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .records import Card, Change, Kind, Note, Task, Unsorted

if TYPE_CHECKING:
    from .account import Account

_NOTE_TYPES = {"call_in": 10, "call_out": 11, "attachment": 5}
_PLAIN_NOTE = 4


def _top(kind: Kind) -> str:
    return "leads" if kind is Kind.LEADS else "contacts"  # companies travel under contacts, with their type


def _item(account: Account, card: Card) -> dict[str, Any]:
    item: dict[str, Any] = {"id": card.id, "name": card.name}
    if card.kind is Kind.LEADS:
        item |= {"status_id": card.status_id, "price": card.price}
    item |= {
        "responsible_user_id": card.responsible_user_id,
        "date_create": card.created_at,
        "last_modified": card.updated_at,
        "created_user_id": card.created_by,
        "modified_user_id": card.updated_by,
        "account_id": account.id,
    }
    if card.kind is Kind.LEADS:
        item["pipeline_id"] = card.pipeline_id
    if card.fields:
        item["custom_fields"] = [_field(account, card, index) for index in range(len(card.fields))]
    if card.tags:
        item["tags"] = [{"id": tag_id, "name": account.tags[card.kind][tag_id]} for tag_id in card.tags]
    item |= {"created_at": card.created_at, "updated_at": card.updated_at}
    if card.kind is not Kind.LEADS:
        item["type"] = card.kind.singular
    return item


def _field(account: Account, card: Card, index: int) -> dict[str, Any]:
    given = card.fields[index]
    field = account.field(card.kind, field_id=given.field_id)
    item: dict[str, Any] = {"id": given.field_id}
    if field:
        item["name"] = field.name
        if field.code:
            item["code"] = field.code
    item["values"] = [
        {"value": value.value} | ({"enum": value.enum_id} if value.enum_id else {}) for value in given.values
    ]
    return item


def added(account: Account, card: Card) -> Change:
    return Change(f"add_{card.kind.singular}", _top(card.kind), "add", _item(account, card))


def changed(account: Account, old: Card, new: Card) -> list[Change]:
    """An update, and beside it what has a subscription of its own: another stage, another responsible."""
    name, top, item = new.kind.singular, _top(new.kind), _item(account, new)
    told = [Change(f"update_{name}", top, "update", item)]
    if new.responsible_user_id != old.responsible_user_id:
        action = "responsible" if new.kind is Kind.LEADS else "update"
        told.append(
            Change(f"responsible_{name}", top, action, item | {"old_responsible_user_id": old.responsible_user_id})
        )
    if new.status_id != old.status_id:
        before = {"old_status_id": old.status_id, "old_pipeline_id": old.pipeline_id}
        told.append(Change("status_lead", top, "status", item | before))
    return told


def deleted(card: Card) -> Change:
    extra: dict[str, Any] = {"type": card.kind.singular}
    if card.kind is Kind.LEADS:
        extra = {"status_id": card.status_id, "pipeline_id": card.pipeline_id}
    return Change(f"delete_{card.kind.singular}", _top(card.kind), "delete", {"id": card.id} | extra)


def task(account: Account, action: str, record: Task) -> Change:
    item: dict[str, Any] = {
        "id": record.id,
        "element_id": record.entity_id,
        "element_type": record.entity_type.element_type if record.entity_type else 0,
        "task_type": record.task_type_id,
        "text": record.text,
        "status": int(record.is_completed),
        "responsible_user_id": record.responsible_user_id,
        "created_user_id": record.created_by,
        "account_id": account.id,
        "complete_till": f"{datetime.fromtimestamp(record.complete_till, UTC):%Y-%m-%d %H:%M:%S}",
        "complete_before": record.complete_till,
        "action_close": int(record.is_completed),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }
    if record.result is not None:
        item["result"] = {"id": record.id, "text": record.result}
    return Change(f"{action}_task", "task", action, item)


def noted(account: Account, note: Note, card: Card) -> Change:
    """A call's own fields travel as JSON inside the form, in capitals."""
    text = str(note.params.get("text", ""))
    if note.is_call:
        given = note.params
        text = json.dumps(
            {
                "UNIQ": given.get("uniq", ""),
                "LINK": given.get("link", ""),
                "PHONE": given.get("phone", ""),
                "DURATION": given.get("duration", 0),
                "SRC": given.get("source", ""),
            }
        )
    author = account.users.get(note.created_by)
    source = {"event_source": {"id": note.created_by, "author_name": author.name if author else "", "type": 1}}
    item = {
        "note": {
            "id": note.id,
            "note_type": _NOTE_TYPES.get(note.note_type, _PLAIN_NOTE),
            "text": text,
            "element_type": note.kind.element_type,
            "element_id": note.entity_id,
            "created_by": note.created_by,
            "created_at": note.created_at,
            "account_id": account.id,
            "metadata": json.dumps(source),
        }
    }
    if card.kind is not Kind.LEADS:
        item["type"] = {"name": card.kind.singular}
    return Change(f"note_{card.kind.singular}", _top(card.kind), "note", item)


def sorted_out(entry: Unsorted, *, accepted: bool) -> Change:
    action = "accept" if accepted else "decline"
    item = {
        "action": action,
        "uid": entry.uid,
        "category": entry.category,
        f"{action}_result": {"leads": [entry.lead_id]},
    }
    return Change("delete_unsorted", "unsorted", "delete", item)
