"""The shapes of Kommo's answers: records as HAL resources, with `_links` and `_embedded`.

`base` is the address that the request came to, such as `http://127.0.0.1:8088`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .records import Card, Field, FieldValue, Kind, Note, Pipeline, Status, Task, Unsorted, User, Webhook

if TYPE_CHECKING:
    from collections.abc import Collection

    from .account import Account

API = "/api/v4"
Resource = dict[str, Any]


def links(base: str, path: str) -> Resource:
    return {"_links": {"self": {"href": f"{base}{API}/{path}"}}}


def reference(base: str, card: Card, **more: Any) -> Resource:
    """A card as another resource embeds it."""
    return {"id": card.id} | more | links(base, f"{card.kind}/{card.id}")


def card(account: Account, base: str, record: Card, with_: Collection[str] = ()) -> Resource:
    body: Resource = {"id": record.id, "name": record.name}
    if record.kind is Kind.CONTACTS:
        body |= {"first_name": record.first_name, "last_name": record.last_name}
    if record.kind is Kind.LEADS:
        body["price"] = record.price
    body |= {
        "responsible_user_id": record.responsible_user_id,
        "group_id": group_id(account, record.responsible_user_id),
    }
    if record.kind is Kind.LEADS:
        body |= {
            "status_id": record.status_id,
            "pipeline_id": record.pipeline_id,
            "loss_reason_id": record.loss_reason_id,
        }
    body |= {
        "created_by": record.created_by,
        "updated_by": record.updated_by,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }
    if record.kind is Kind.LEADS:
        body["closed_at"] = record.closed_at
    body |= {"closest_task_at": closest_task_at(account, record), "is_deleted": record.is_deleted}
    if record.kind is Kind.CONTACTS:
        body["is_unsorted"] = record.is_unsorted
    body["custom_fields_values"] = [field_value(account, record.kind, given) for given in record.fields] or None
    if record.kind is Kind.LEADS:
        body |= {"score": None, "labor_cost": None, "is_price_computed": False}
    body["account_id"] = account.id
    return body | links(base, f"{record.kind}/{record.id}") | {"_embedded": _embedded(account, base, record, with_)}


def _embedded(account: Account, base: str, record: Card, with_: Collection[str]) -> Resource:
    colour = {"color": None} if record.kind is Kind.LEADS else {}
    embedded: Resource = {
        "tags": [{"id": tag_id, "name": account.tags[record.kind][tag_id]} | colour for tag_id in record.tags]
    }
    if record.kind is not Kind.COMPANIES:
        embedded["companies"] = [reference(base, other) for other in account.linked(record, Kind.COMPANIES)]
    if record.kind is not Kind.CONTACTS and "contacts" in with_:
        main = {link.to_id for link in account.links.of(record.kind, record.id) if link.is_main}
        embedded["contacts"] = [
            reference(base, other, **({"is_main": other.id in main} if record.kind is Kind.LEADS else {}))
            for other in account.linked(record, Kind.CONTACTS)
        ]
    if record.kind is not Kind.LEADS and "leads" in with_:
        leads = account.linked(record, Kind.LEADS)
        embedded["leads"] = [reference(base, lead) for lead in leads if not lead.is_deleted]
    if "loss_reason" in with_ and record.loss_reason_id is not None:
        embedded["loss_reason"] = [{"id": record.loss_reason_id, "name": account.loss_reasons[record.loss_reason_id]}]
    if "catalog_elements" in with_:
        embedded["catalog_elements"] = []
    return embedded


def field_value(account: Account, kind: Kind, given: FieldValue) -> Resource:
    field = account.field(kind, field_id=given.field_id)
    enums = {enum.id: enum for enum in field.enums} if field else {}
    values = []
    for value in given.values:
        item: Resource = {"value": value.value}
        if value.enum_id is not None:
            item |= {
                "enum_id": value.enum_id,
                "enum_code": enums[value.enum_id].code if value.enum_id in enums else None,
            }
        values.append(item)
    return {
        "field_id": given.field_id,
        "field_name": field.name if field else "",
        "field_code": field.code if field else None,
        "field_type": field.type if field else "text",
        "values": values,
    }


def group_id(account: Account, user_id: int) -> int:
    user = account.users.get(user_id)
    return user.group_id if user else 0


def closest_task_at(account: Account, record: Card) -> int | None:
    due = (
        task.complete_till
        for task in account.tasks.values()
        if task.entity_type is record.kind and task.entity_id == record.id and not task.is_completed
    )
    return min(due, default=None)


def task(account: Account, base: str, record: Task) -> Resource:
    return {
        "id": record.id,
        "created_by": record.created_by,
        "updated_by": record.updated_by,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "responsible_user_id": record.responsible_user_id,
        "group_id": group_id(account, record.responsible_user_id),
        "entity_id": record.entity_id or None,
        "entity_type": record.entity_type,
        "duration": record.duration,
        "is_completed": record.is_completed,
        "task_type_id": record.task_type_id,
        "text": record.text,
        "result": [] if record.result is None else {"text": record.result},
        "complete_till": record.complete_till,
        "account_id": account.id,
    } | links(base, f"tasks/{record.id}")


def note(account: Account, base: str, record: Note) -> Resource:
    return {
        "id": record.id,
        "entity_id": record.entity_id,
        "created_by": record.created_by,
        "updated_by": record.updated_by,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "responsible_user_id": record.responsible_user_id,
        "group_id": group_id(account, record.responsible_user_id),
        "note_type": record.note_type,
        "params": dict(record.params),
        "is_pinned": record.is_pinned,
        "account_id": account.id,
    } | note_links(base, record)


def note_links(base: str, record: Note) -> Resource:
    return links(base, f"{record.kind}/{record.entity_id}/notes/{record.id}")


def unsorted(account: Account, base: str, entry: Unsorted) -> Resource:
    return {
        "uid": entry.uid,
        "source_uid": entry.source_uid,
        "source_name": entry.source_name,
        "category": entry.category,
        "pipeline_id": entry.pipeline_id,
        "created_at": entry.created_at,
        "metadata": dict(entry.metadata),
        "account_id": account.id,
        **links(base, f"leads/unsorted/{entry.uid}"),
        "_embedded": unsorted_cards(account, base, entry),
    }


def unsorted_cards(account: Account, base: str, entry: Unsorted) -> Resource:
    return {
        "contacts": [reference(base, account.contacts[card_id]) for card_id in entry.contact_ids],
        "leads": [reference(base, account.leads[entry.lead_id])],
        "companies": [reference(base, account.companies[card_id]) for card_id in entry.company_ids],
    }


def user(base: str, record: User) -> Resource:
    everything = dict.fromkeys(("view", "edit", "add", "delete", "export"), "A")
    return {
        "id": record.id,
        "name": record.name,
        "email": record.email,
        "lang": "en",
        "rights": {
            "leads": everything,
            "contacts": everything,
            "companies": everything,
            "tasks": {"edit": "A", "delete": "A"},
            "mail_access": record.is_admin,
            "catalog_access": record.is_admin,
            "status_rights": None,
            "is_admin": record.is_admin,
            "is_free": False,
            "is_active": record.is_active,
            "group_id": record.group_id or None,
            "role_id": None,
        },
    } | links(base, f"users/{record.id}")


def custom_field(account: Account, base: str, kind: Kind, record: Field, sort: int) -> Resource:
    return {
        "id": record.id,
        "name": record.name,
        "type": record.type,
        "account_id": account.id,
        "code": record.code,
        "sort": sort,
        "is_api_only": False,
        "enums": [
            {"id": enum.id, "value": enum.value, "sort": 500 + number} | ({"code": enum.code} if enum.code else {})
            for number, enum in enumerate(record.enums)
        ]
        or None,
        "group_id": None,
        "required_statuses": [],
        "is_deletable": record.code is None,
        "is_predefined": record.code is not None,
        "entity_type": kind,
    } | links(base, f"{kind}/custom_fields/{record.id}")


def status(account: Account, base: str, line: Pipeline, record: Status) -> Resource:
    return {
        "id": record.id,
        "name": record.name,
        "sort": record.sort,
        "is_editable": record.is_editable,
        "pipeline_id": line.id,
        "color": record.color,
        "type": record.type,
        "account_id": account.id,
    } | links(base, f"leads/pipelines/{line.id}/statuses/{record.id}")


def pipeline(account: Account, base: str, record: Pipeline) -> Resource:
    return {
        "id": record.id,
        "name": record.name,
        "sort": record.sort,
        "is_main": record.is_main,
        "is_unsorted_on": record.is_unsorted_on,
        "is_archive": False,
        "account_id": account.id,
        **links(base, f"leads/pipelines/{record.id}"),
        "_embedded": {"statuses": [status(account, base, record, stage) for stage in record.statuses]},
    }


def webhook(account: Account, record: Webhook) -> Resource:
    return {
        "id": record.id,
        "destination": record.destination,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "account_id": account.id,
        "created_by": record.created_by,
        "sort": record.sort,
        "disabled": record.disabled,
        "settings": list(record.settings),
    }
