"""From the hooks' bodies to those of API v4. No IO.

Hooks keep the shapes of the module they were written for, and may add any field that Kommo knows. What is in the API's
form already passes through; what only the hooks may see (`call_full`, `call_stage`) is taken out, and nulls, which
Kommo refuses in calls and notes. The given bodies are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["contact", "lead", "task", "call", "unsorted", "contact_update", "lead_update"]

FOR_HOOKS_ALONE = frozenset({"call_full", "call_stage"})


def for_api(kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
    """`body` as Kommo takes it; its values are those given, refused or not."""
    kept = {key: without_nulls(value) for key, value in body.items() if key not in FOR_HOOKS_ALONE}
    present = {key: value for key, value in kept.items() if value is not None}
    return _TRANSLATIONS[kind](present)


def without_nulls(value: object) -> object:
    """`value` without the keys and list items that are None, at any depth."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(item) for item in value if item is not None]
    return value


def _as_is(body: dict[str, Any]) -> dict[str, Any]:
    return body


def _new_card(body: dict[str, Any]) -> dict[str, Any]:
    """`tags` at the root join those under ``_embedded``."""
    given = _tags(body.pop("tags", ()))
    if given:
        embedded = body.get("_embedded")
        embedded = embedded if isinstance(embedded, dict) else {}
        body["_embedded"] = {**embedded, "tags": _joined(_tags(embedded.get("tags", ())), given)}
    return body


def _changed_card(body: dict[str, Any]) -> dict[str, Any]:
    """`tags` at the root are added to the card's: ``_embedded.tags`` would take the place of all it has."""
    given = _tags(body.pop("tags", ()))
    if given:
        body["tags_to_add"] = _joined(_tags(body.get("tags_to_add", ())), given)
    return body


def _task(body: dict[str, Any]) -> dict[str, Any]:
    task_type = body.pop("task_type", None)
    if task_type is not None:
        body.setdefault("task_type_id", task_type)
    return body


def _unsorted(body: dict[str, Any]) -> dict[str, Any]:
    embedded = body.get("_embedded")
    if isinstance(embedded, dict):
        body["_embedded"] = {
            noun: [_new_card(dict(card)) if isinstance(card, dict) else card for card in cards]
            if noun in {"contacts", "leads", "companies"} and isinstance(cards, list)
            else cards
            for noun, cards in embedded.items()
        }
    return body


_TRANSLATIONS: dict[Kind, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "contact": _new_card,
    "lead": _new_card,
    "task": _task,
    "call": _as_is,
    "unsorted": _unsorted,
    "contact_update": _changed_card,
    "lead_update": _changed_card,
}


def _tags(given: object) -> list[dict[str, Any]]:
    """Tags as Kommo takes them, from names, from ``{name}`` or ``{id}``, from one name, from PHP's numbered map."""
    if isinstance(given, dict):
        given = [given] if given.keys() & {"id", "name"} else list(given.values())
    if isinstance(given, str | int) and not isinstance(given, bool):
        given = [given]
    items = given if isinstance(given, list | tuple) else ()
    tags = [dict(item) if isinstance(item, dict) else {"name": str(item).strip()} for item in items]
    return [tag for tag in tags if tag.get("id") or tag.get("name")]


def _joined(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return first + [tag for tag in second if tag not in first]
