"""Kommo's `filter[…]` and `order[…]`. What a list does not know is ignored, as there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from itgrix_kommo.kommo import brackets

from . import hal, matching
from .records import Card, Kind, Note, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .account import Account
    from .visit import Visit

R = TypeVar("R", Card, Note, Task)
_EQUAL = ("id", "name", "created_by", "updated_by", "responsible_user_id")


def cards(visit: Visit, kind: Kind) -> list[Card]:
    """What a list request for that kind of card finds, in its order."""
    account = visit.account
    if "only_deleted" in visit.with_:
        found: Iterable[Card] = (card for card in account.cards[kind].values() if card.is_deleted)
    else:
        found = account.visible(kind)
    query = visit.query.get("query")
    if isinstance(query, str) and query.strip():
        hits = {card.id for card in matching.search(account, kind, query.strip())}
        found = (card for card in found if card.id in hits)
    tree = _filters(visit)
    if account.switches.filters == "honoured":
        found = (card for card in found if _card_passes(account, card, tree))
    return ordered(visit, found, {"updated_at", "created_at", "id"})


def honoured(visit: Visit) -> bool:
    """Whether notes and tasks heed their filters."""
    return visit.account.switches.filters != "ignored"


def _card_passes(account: Account, card: Card, tree: Mapping[str, Any]) -> bool:
    if not all(among(tree, name, getattr(card, name)) for name in _EQUAL):
        return False
    closest = hal.closest_task_at(account, card) if "closest_task_at" in tree else None
    if not (
        within(tree, "created_at", card.created_at)
        and within(tree, "updated_at", card.updated_at)
        and within(tree, "closest_task_at", closest)
    ):
        return False
    if card.kind is Kind.LEADS and not _lead_passes(card, tree):
        return False
    wanted = tree.get("custom_fields_values")
    return not isinstance(wanted, dict) or all(_has_value(card, field_id, value) for field_id, value in wanted.items())


def _lead_passes(lead: Card, tree: Mapping[str, Any]) -> bool:
    return (
        among(tree, "pipeline_id", lead.pipeline_id)
        and among(tree, "price", lead.price)
        and within(tree, "closed_at", lead.closed_at)
        and in_stage(tree, "statuses", lead)
    )


def _has_value(card: Card, field_id: str, wanted: object) -> bool:
    values = {str(value.value) for given in card.fields if str(given.field_id) == field_id for value in given.values}
    return bool(values.intersection(brackets.listed(wanted)))


def among(tree: Mapping[str, Any], name: str, value: object) -> bool:
    """True when there is no such filter, too."""
    wanted = brackets.listed(tree.get(name))
    return not wanted or str(value) in wanted


def within(tree: Mapping[str, Any], name: str, value: int | None) -> bool:
    """`filter[x]=1` is exact, `filter[x][from]=1&filter[x][to]=2` inclusive on both ends."""
    given = tree.get(name)
    if not isinstance(given, dict):
        return given is None or str(value) == given
    bounds = {end: moment for end, text in given.items() if (moment := brackets.whole(text)) is not None}
    if not bounds:
        return True
    return value is not None and bounds.get("from", value) <= value <= bounds.get("to", value)


def in_stage(tree: Mapping[str, Any], name: str, lead: Card) -> bool:
    """`filter[statuses][0][pipeline_id]` and `[status_id]` together; a pair that is not whole is no filter."""
    given = tree.get(name)
    pairs = [pair for pair in given.values() if isinstance(pair, dict)] if isinstance(given, dict) else []
    whole = [(pair["pipeline_id"], pair["status_id"]) for pair in pairs if {"pipeline_id", "status_id"} <= pair.keys()]
    return not whole or (str(lead.pipeline_id), str(lead.status_id)) in whole


def ordered(visit: Visit, records: Iterable[R], allowed: set[str]) -> list[R]:
    order = visit.query.get("order")
    by, way = next(iter(order.items())) if isinstance(order, dict) and order else ("id", "asc")
    column = by if by in allowed else "id"
    return sorted(records, key=lambda record: (getattr(record, column), record.id), reverse=way == "desc")


def _filters(visit: Visit) -> Mapping[str, Any]:
    tree = visit.query.get("filter")
    return tree if isinstance(tree, dict) else {}


def notes(visit: Visit, records: Iterable[Note]) -> list[Note]:
    tree = _filters(visit) if honoured(visit) else {}
    found = (
        note
        for note in records
        if among(tree, "id", note.id)
        and among(tree, "entity_id", note.entity_id)
        and among(tree, "note_type", note.note_type)
        and within(tree, "updated_at", note.updated_at)
    )
    return ordered(visit, found, {"updated_at", "id"})


def tasks(visit: Visit) -> list[Task]:
    tree = _filters(visit) if honoured(visit) else {}
    found = (
        task
        for task in visit.account.tasks.values()
        if all(among(tree, name, getattr(task, name)) for name in ("id", "responsible_user_id", "created_by"))
        and among(tree, "is_completed", int(task.is_completed))
        and among(tree, "task_type", task.task_type_id)
        and among(tree, "task_type_id", task.task_type_id)
        and among(tree, "entity_type", task.entity_type)
        and among(tree, "entity_id", task.entity_id)
        and within(tree, "updated_at", task.updated_at)
        and _task_in_stage(visit.account, tree, task)
    )
    return ordered(visit, found, {"complete_till", "created_at", "id"})


def _task_in_stage(account: Account, tree: Mapping[str, Any], task: Task) -> bool:
    if "lead_statuses" not in tree:
        return True
    return task.entity_type is Kind.LEADS and in_stage(tree, "lead_statuses", account.leads[task.entity_id])
