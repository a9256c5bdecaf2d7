"""What Kommo's webhooks tell of clients and their leads. No IO.

They come as forms in PHP's bracket notation, everything as text, unsigned, perhaps late and out of order: good enough
to refresh what is remembered, never to write on their word.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from itgrix_kommo.kommo import brackets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

EVENTS = (
    *(f"{what}_{card}" for card in ("contact", "company") for what in ("add", "update", "delete", "responsible")),
    *(f"{what}_lead" for what in ("add", "update", "delete", "status", "responsible")),
)
"""What to subscribe to, that the changes below come in."""

MOST_PAIRS = 20_000
"""Kommo tells of a few cards at once: a longer form is none of Kommo's."""

_TYPES: dict[str, Literal["contacts", "companies"]] = {"contact": "contacts", "company": "companies"}


@dataclass(frozen=True, slots=True)
class ClientTold:
    """A client as he is now; `phones` are all he has, as people typed them."""

    type: Literal["contacts", "companies"]
    id: int
    name: str
    responsible_id: int
    phones: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClientGone:
    type: Literal["contacts", "companies"]
    id: int


@dataclass(frozen=True, slots=True)
class LeadTold:
    """A lead as it is now; whose it is webhooks don't tell."""

    id: int
    name: str
    pipeline_id: int
    status_id: int
    responsible_id: int


@dataclass(frozen=True, slots=True)
class LeadGone:
    id: int


Change: TypeAlias = ClientTold | ClientGone | LeadTold | LeadGone


def changes_of(form: Iterable[tuple[str, str]], account_id: int) -> list[Change]:
    """What the form tells, in its order; nothing where it is not of this account or makes no sense."""
    pairs = list(islice(form, MOST_PAIRS + 1))
    tree = brackets.parse(pairs) if len(pairs) <= MOST_PAIRS else {}
    account = tree.get("account")
    if not isinstance(account, dict) or brackets.whole(account.get("id")) != account_id:
        return []
    return [*_clients(tree.get("contacts")), *_leads(tree.get("leads"))]


def _clients(actions: object) -> Iterator[Change]:
    for action, item in _items(actions):
        noun = _TYPES.get(str(item.get("type", "contact")))
        client_id = brackets.whole(item.get("id"))
        if noun is None or client_id is None:
            continue
        if action == "delete":
            yield ClientGone(noun, client_id)
        elif action in {"add", "update", "restore"}:
            name, responsible = str(item.get("name", "")), brackets.whole(item.get("responsible_user_id")) or 0
            yield ClientTold(noun, client_id, name, responsible, tuple(_phones(item.get("custom_fields"))))


def _leads(actions: object) -> Iterator[Change]:
    for action, item in _items(actions):
        lead_id, status_id = brackets.whole(item.get("id")), brackets.whole(item.get("status_id"))
        if lead_id is None:
            continue
        if action == "delete":
            yield LeadGone(lead_id)
        elif action in {"add", "update", "status", "responsible", "restore"} and status_id is not None:
            yield LeadTold(
                lead_id,
                str(item.get("name", "")),
                brackets.whole(item.get("pipeline_id")) or 0,
                status_id,
                brackets.whole(item.get("responsible_user_id")) or 0,
            )


def _items(actions: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for action, items in actions.items() if isinstance(actions, dict) else ():
        for item in items.values() if isinstance(items, dict) else ():
            if isinstance(item, dict):
                yield action, item


def _phones(fields: object) -> Iterator[str]:
    """Values come as mappings, or as bare text."""
    for field in fields.values() if isinstance(fields, dict) else ():
        if isinstance(field, dict) and field.get("code") == "PHONE":
            values = field.get("values")
            for value in values.values() if isinstance(values, dict) else ():
                text = value.get("value") if isinstance(value, dict) else value
                if isinstance(text, str):
                    yield text
