"""What became of each item of a written list. No IO.

Kommo answers a list with one status for all, yet names items by the `request_id` that we gave them: the written ones
under ``_embedded``, the refused ones under ``errors`` or ``validation-errors``, whatever the status. What is named in
neither is not known to be written, nor not to be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from itgrix_kommo.errors import KommoError, KommoRejected, KommoUnreachable
from itgrix_kommo.kommo.answers import faults_by_item, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MOST_ITEMS = 50
"""Kommo takes 250 and recommends 50: heavier lists end in 504."""

_PLURALS = {"contact": "contacts", "company": "companies", "lead": "leads", "customer": "customers"}

Body: TypeAlias = "Mapping[str, object]"


@dataclass(frozen=True, slots=True)
class Added:
    """Written. `id` is that of the contact or note; `entity_type` (plural) and `entity_id` name a call's card."""

    request_id: str
    id: int
    entity_type: str | None = None
    entity_id: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Surely not written, for a fault of this very item.

    `status` is the item's own (263: nobody has this phone), None where it could not even be sent.
    """

    request_id: str
    status: int | None
    title: str
    detail: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Kommo said nothing of this item: `error` tells why, and by `may_have_happened` whether it may be written."""

    request_id: str
    error: KommoError


Outcome: TypeAlias = Added | Refused | Unanswered


@dataclass(frozen=True, slots=True)
class Batch:
    """What travels in one request: bodies by their request_id, in order."""

    items: dict[str, Body]

    @property
    def body(self) -> list[Body]:
        return [{**body, "request_id": request_id} for request_id, body in self.items.items()]


def split(bodies: Sequence[Body]) -> Iterator[Batch]:
    """`bodies` in batches that Kommo can carry. Who has no `request_id` gets his place in the whole list.

    Raises ValueError where two bodies have the same one: their outcomes could not be told apart.
    """
    numbered: dict[str, Body] = {}
    for index, body in enumerate(bodies):
        request_id = str(body.get("request_id", index))
        if request_id in numbered:
            message = f"request_id {request_id!r} is given twice in one list: give each item its own"
            raise ValueError(message)
        numbered[request_id] = body
    items = list(numbered.items())
    for start in range(0, len(items), MOST_ITEMS):
        yield Batch(dict(items[start : start + MOST_ITEMS]))


def settle(request: str, noun: str, batch: Batch, answer: object) -> list[Outcome]:
    """The outcome of each item, from an answer's body, be it a success or not; `noun` is the key of the written."""
    known: dict[str, Outcome] = {}
    body = answer if isinstance(answer, dict) else {}
    for request_id, error in _named(body.get("errors"), batch):
        title, detail = (one_line(error.get(key) or "") for key in ("title", "detail"))
        known[request_id] = Refused(request_id, _number(error.get("status")), title, detail)
    embedded = body.get("_embedded")
    written = embedded.get(noun) if isinstance(embedded, dict) else None
    for request_id, item in _named(written, batch):
        if (item_id := _number(item.get("id"))) is not None:
            entity_type = item.get("entity_type")
            known[request_id] = Added(
                request_id,
                item_id,
                _PLURALS.get(entity_type, entity_type) if isinstance(entity_type, str) else None,
                _number(item.get("entity_id")),
            )
    lost = KommoUnreachable(
        f"Kommo's answer to {request} names this item neither as done nor as refused", may_have_happened=True
    )
    return [known.get(request_id, Unanswered(request_id, lost)) for request_id in batch.items]


def settle_rejected(request: str, noun: str, batch: Batch, error: KommoRejected) -> list[Outcome]:
    """The outcome of each item of a list that was answered with 4xx.

    With ``validation-errors`` nothing of the list is written: the named items are refused, the others may go again
    without them. An item that was sent alone needs no name. Where a longer list is refused and nobody is named, only
    sending its parts tells the culprit.
    """
    problem = error.problem if isinstance(error.problem, dict) else {}
    if "errors" in problem or "_embedded" in problem:
        return settle(request, noun, batch, problem)
    faults = faults_by_item(problem)
    if len(batch.items) == 1:
        own = [fault for found in faults.values() for fault in found] or [str(error)]
        faults = dict.fromkeys(batch.items, own)
    title = one_line(problem.get("detail") or problem.get("title") or "")
    return [
        Refused(request_id, error.status, title, "; ".join(faults[request_id]))
        if request_id in faults
        else Unanswered(request_id, error)
        for request_id in batch.items
    ]


def settle_failed(batch: Batch, error: KommoError) -> list[Outcome]:
    return [Unanswered(request_id, error) for request_id in batch.items]


def _named(items: object, batch: Batch) -> Iterator[tuple[str, dict[str, Any]]]:
    """The mappings of a list with the request_id of ours that each belongs to."""
    entries = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    for item in entries:
        named = item.get("request_id")
        if named is None and len(entries) == len(batch.items) == 1:
            yield next(iter(batch.items)), item
        elif str(named) in batch.items:
            yield str(named), item


def _number(value: object) -> int | None:
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
