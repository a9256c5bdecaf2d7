"""What became of each item of a written list. No IO.

Kommo answers a list with one status for all, yet names items by the `request_id` that we gave them: the written ones
under ``_embedded``, the refused ones under ``errors`` or ``validation-errors``, whatever the status. Changed things may
be named by their `id` alone, and links, which take no `request_id`, by their two ends or their place in the list. What
is named in neither is not known to be written, nor not to be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from itgrix_kommo.errors import KommoError, KommoRejected, KommoUnreachable
from itgrix_kommo.kommo.answers import faults_by_item, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

MOST_ITEMS = 50
"""Kommo takes 250 and recommends 50: heavier lists end in 504."""

_PLURALS = {"contact": "contacts", "company": "companies", "lead": "leads", "customer": "customers"}

Body: TypeAlias = "Mapping[str, object]"
IsAwaited: TypeAlias = "Callable[[int], bool]"
"""Whether anybody still waits for what becomes of the item at this place of a list."""


@dataclass(frozen=True, slots=True)
class Added:
    """Written. `id` is that of the contact, lead, task or note; `entity_type` (plural) and `entity_id` name its card.

    Of an incoming lead `uid` is the entry, `id` the lead that it hides (0 where Kommo names none), and `entity_id` its
    contact. Of a link `id` is the lead, and `entity_id` what it was tied to.
    """

    request_id: str
    id: int
    entity_type: str | None = None
    entity_id: int | None = None
    uid: str = ""


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
    """What travels in one request: bodies by their request_id, in order.

    `is_named` tells whether Kommo takes a `request_id` here, and so can name the items as we do.
    """

    items: dict[str, Body]
    is_named: bool = True

    @property
    def body(self) -> list[Body]:
        if not self.is_named:
            return list(self.items.values())
        return [{**body, "request_id": request_id} for request_id, body in self.items.items()]

    def only(self, request_ids: Collection[str]) -> Batch:
        return Batch({one: body for one, body in self.items.items() if one in request_ids}, is_named=self.is_named)

    def in_parts(self, most: int) -> list[Batch]:
        """The same items in batches of `most` at most."""
        items = list(self.items.items())
        return [
            Batch(dict(items[start : start + most]), is_named=self.is_named) for start in range(0, len(items), most)
        ]

    def own_name(self, told: object) -> str | None:
        """Our request_id of what Kommo calls so, None where it is no item of ours."""
        if self.is_named:
            return str(told) if str(told) in self.items else None
        place = _number(told)
        return list(self.items)[place] if place is not None and place < len(self.items) else None


def gather(bodies: Sequence[Body], *, is_named: bool = True) -> Batch:
    """All `bodies` as one batch, however long. Who has no `request_id` gets his place in the list.

    Raises ValueError where two bodies have the same one: their outcomes could not be told apart.
    """
    numbered: dict[str, Body] = {}
    for index, body in enumerate(bodies):
        request_id = str(body.get("request_id", index))
        if request_id in numbered:
            message = f"request_id {request_id!r} is given twice in one list: give each item its own"
            raise ValueError(message)
        numbered[request_id] = body
    return Batch(numbered, is_named=is_named)


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
        added = _added(request_id, item)
        if added is not None:
            known[request_id] = added
    lost = KommoUnreachable(
        f"Kommo's answer to {request} names this item neither as done nor as refused", may_have_happened=True
    )
    return [known.get(request_id, Unanswered(request_id, lost)) for request_id in batch.items]


def settle_rejected(request: str, noun: str, batch: Batch, error: KommoError) -> list[Outcome]:
    """The outcome of each item of a list that was answered with 4xx.

    With ``validation-errors`` nothing of the list is written: the named items are refused, the others may go again
    without them. An item that was sent alone needs no name. Where a longer list is refused and nobody is named, only
    sending its parts tells the culprit.
    """
    problem = error.problem if isinstance(error, KommoRejected) and isinstance(error.problem, dict) else {}
    if "errors" in problem or "_embedded" in problem:
        return settle(request, noun, batch, problem)
    faults: dict[str | None, list[str]] = {
        batch.own_name(told): found for told, found in faults_by_item(problem).items()
    }
    if len(batch.items) == 1:
        own = [fault for found in faults.values() for fault in found] or [str(error)]
        faults = {next(iter(batch.items)): own}
    title = one_line(problem.get("detail") or problem.get("title") or "")
    return [
        Refused(request_id, error.status, title, "; ".join(faults[request_id]))
        if request_id in faults
        else Unanswered(request_id, error)
        for request_id in batch.items
    ]


def settle_failed(batch: Batch, error: KommoError) -> list[Outcome]:
    return [Unanswered(request_id, error) for request_id in batch.items]


def to_send_again(batch: Batch, outcomes: Sequence[Outcome]) -> list[Batch]:
    """What is left of a refused batch, in the batches that tell more: without the culprits, else in halves.

    Only what surely was not written goes again, so nothing is written twice.
    """
    left = [
        outcome.request_id
        for outcome in outcomes
        if isinstance(outcome, Unanswered) and not outcome.error.may_have_happened
    ]
    rest = batch.only(left)
    return rest.in_parts(len(left)) if 0 < len(left) < len(batch.items) else halves(rest)


def halves(batch: Batch) -> list[Batch]:
    return batch.in_parts(max(1, (len(batch.items) + 1) // 2))


def _added(request_id: str, item: Mapping[str, Any]) -> Added | None:
    if isinstance(uid := item.get("uid"), str):
        return Added(request_id, _first(item, "leads") or 0, "contacts", _first(item, "contacts"), uid)
    entity_type = item.get("entity_type")
    plural = _PLURALS.get(entity_type, entity_type) if isinstance(entity_type, str) else None
    entity_id = _number(item.get("entity_id"))
    if (to_id := _number(item.get("to_entity_id"))) is not None and entity_id is not None:
        return Added(request_id, entity_id, str(item.get("to_entity_type")), to_id)
    item_id = _number(item.get("id"))
    return None if item_id is None else Added(request_id, item_id, plural, entity_id)


def _first(item: Mapping[str, Any], noun: str) -> int | None:
    """The id of the first embedded card of that kind."""
    try:
        return _number(item["_embedded"][noun][0]["id"])
    except (TypeError, KeyError, IndexError):
        return None


def _named(items: object, batch: Batch) -> Iterator[tuple[str, dict[str, Any]]]:
    """The mappings of a list with the request_id of ours that each belongs to."""
    entries = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    for item in entries:
        told = item.get("request_id")
        if told is not None:
            name = batch.own_name(told)
        elif len(entries) == len(batch.items) == 1:
            name = next(iter(batch.items))
        else:
            name = _by_identity(item, batch)
        if name is not None:
            yield name, item


_IDENTITIES = (("entity_id", "to_entity_type", "to_entity_id"), ("id",))


def _by_identity(item: Mapping[str, Any], batch: Batch) -> str | None:
    """The one item of ours that a nameless one is: by the id that we gave, or by the two ends of a link."""
    for keys in _IDENTITIES:
        if all(key in item for key in keys):
            wanted = [str(item[key]) for key in keys]
            same = [name for name, body in batch.items.items() if [str(body.get(key)) for key in keys] == wanted]
            if len(same) == 1:
                return same[0]
    return None


def _number(value: object) -> int | None:
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
