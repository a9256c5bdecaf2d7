"""How what we may have written is known again, when the answer to a write was lost. No IO.

Kommo keeps nothing of ours by which any item could be asked for, so each kind has its own way. Each function looks at
what the reads return once Kommo has had time to show it, and names the one thing that is ours, or None: then it may be
sent again. What was ours before (`known`) is never taken for it.

| written | read | known again by |
|---|---|---|
| contact | `find_contacts(phone)` | the phone, which nobody had when we began |
| lead | `contact`, then `leads` of it | its name, and that it is younger than our attempt |
| call, call note | `notes` of the contact, of his leads | `uniq` |
| task | `tasks` of the card | its text, with its date or its age |
| incoming lead | `recent_unsorted` | `source_uid` and `uniq`; once accepted or declined, it is listed no more |
| link | `lead` | the contact is among the lead's; linking twice does no harm |
| update | the card itself | nothing is left to change; changing twice does no harm |
| closing of a task | `task` | `is_completed`; closing twice does no harm |
| recording of a call | `notes` | its link; changing twice does no harm |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from itgrix_kommo.kommo.models import Contact, Lead, Note, Task, Unsorted

SKEW = 120.0
"""Kommo's clock may be behind ours by so many seconds, and a thing seem older than our attempt to write it."""

CALL_PARAMS = (
    "uniq",
    "duration",
    "source",
    "link",
    "phone",
    "call_result",
    "call_status",
    "call_responsible",
)
"""The keys of a call note that Kommo takes; what else a read may show it would refuse."""

_ABSENT = object()


def written_contact(found: Iterable[Contact], *, known: Collection[int] = ()) -> Contact | None:
    """The oldest of those `found` by the phone: whoever made it, a second one is not wanted."""
    return min((one for one in found if one.id not in known), key=lambda one: one.id, default=None)


def written_lead(
    leads: Iterable[Lead], body: Mapping[str, Any], since: float, *, known: Collection[int] = ()
) -> Lead | None:
    """The oldest of the client's `leads` that is no older than `since` (Unix s) and has the name of `body`."""
    name = body.get("name")
    ours = (
        lead
        for lead in leads
        if lead.id not in known
        and not lead.is_deleted
        and lead.created_at >= min(since, _time(body.get("created_at"), since)) - SKEW
        and (name is None or lead.name == name)
    )
    return min(ours, key=lambda lead: lead.id, default=None)


def written_call(notes: Iterable[Note], uniq: str) -> Note | None:
    return min((note for note in notes if uniq and note.uniq == uniq), key=lambda note: note.id, default=None)


def written_task(
    tasks: Iterable[Task], body: Mapping[str, Any], since: float, *, known: Collection[int] = ()
) -> Task | None:
    """The oldest of the card's `tasks` with the text of `body`, due as there, or younger than `since` (Unix s).

    A user may have moved it to another day meanwhile; a task of an earlier call may have the same text.
    """
    ours = (
        task
        for task in tasks
        if task.id not in known
        and task.text == body.get("text")
        and (
            task.complete_till == body.get("complete_till")
            or task.created_at >= min(since, _time(body.get("created_at"), since)) - SKEW
        )
    )
    return min(ours, key=lambda task: task.id, default=None)


def written_unsorted(entries: Iterable[Unsorted], body: Mapping[str, Any]) -> Unsorted | None:
    """The entry with the `source_uid` of `body` and its call's `uniq`, where it has one."""
    metadata = body.get("metadata")
    uniq = str(metadata.get("uniq") or "") if isinstance(metadata, dict) else ""
    source_uid = str(body.get("source_uid") or "")
    return next(
        (one for one in entries if source_uid and one.source_uid == source_uid and one.uniq in {uniq, ""}), None
    )


def is_linked(lead: Lead, contact_id: int) -> bool:
    return contact_id in lead.contact_ids


def left_to_change(entity: Contact | Lead | Task, body: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of an update that `entity` does not show as done; empty when a request would change nothing.

    What we do not read of an entity (fields, tags) counts as left to do.
    """
    return {
        key: value
        for key, value in body.items()
        if key not in {"id", "request_id"} and not _same(getattr(entity, key, _ABSENT), value)
    }


def call_note_with(note: Note, **params: object) -> dict[str, Any]:
    """The body that adds `params` (its `link`) to a call note: Kommo wants all of them again."""
    kept = {key: note.params[key] for key in CALL_PARAMS if note.params.get(key) is not None}
    return {"id": note.id, "note_type": note.note_type, "params": kept | params}


def _same(shown: object, wanted: object) -> bool:
    """PHP may write a number as text."""
    return shown == wanted or (type(shown) is int and type(wanted) is str and str(shown) == wanted)


def _time(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) else otherwise
