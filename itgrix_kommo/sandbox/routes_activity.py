"""Calls, notes and tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import filters, hal, matching
from .activity_bodies import CallBody, NoteBody, NoteChange, TaskBody, TaskChange
from .bodies import fault, parse_items, request_id
from .problems import PROBLEM_JSON, ApiError, ItemsRefused
from .records import Card, Kind, Note
from .routes_cards import parent
from .visit import empty

if TYPE_CHECKING:
    from aiohttp import web

    from .visit import Handler, Visit

NO_ENTITY, KNOWN_UNIQ = 263, 264


def _call_error(status: int, title: str, detail: str, rid: str) -> dict[str, Any]:
    return {"title": title, "status": status, "detail": detail, "request_id": rid}


async def add_calls(visit: Visit) -> web.Response:
    """Each call on the card that its phone means; a phone that means none is an error of that call alone."""
    account = visit.account
    done: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    for index, body in enumerate(parse_items(await visit.json(), CallBody, account)):
        rid = request_id(body, index)
        card = matching.call_target(account, body.phone)
        if card is None:
            errors.append(_call_error(NO_ENTITY, "Entity not found", "Entity not found by the phone number", rid))
            continue
        if account.switches.repeated_uniq == "refused" and body.uniq in {
            call.params.get("uniq") for call in account.calls
        }:
            errors.append(_call_error(KNOWN_UNIQ, "Call already exists", "Call with this uniq already exists", rid))
            continue
        note = account.add_note(card, body.note(), by=visit.user.id, request_id=body.request_id or None)
        done.append(
            {
                "id": note.id,
                "entity_id": card.id,
                "entity_type": card.kind.singular,
                "account_id": account.id,
                "request_id": rid,
                "_embedded": {"entity": hal.reference(visit.base, card)},
            }
        )
    status = 200 if not errors else (account.switches.mixed_calls_status if done else 400)
    response = visit.answer({"_total_items": len(done), "errors": errors, "_embedded": {"calls": done}}, status)
    if status == 400:
        response.content_type = PROBLEM_JSON
    return response


def _kind(visit: Visit) -> Kind:
    return Kind(visit.part("kind"))


def _notes(visit: Visit, card: Card | None) -> list[Note]:
    return [
        note
        for note in visit.account.notes.values()
        if note.kind is _kind(visit) and (card is None or note.entity_id == card.id)
    ]


async def list_notes(visit: Visit) -> web.Response:
    card = parent(visit) if "id" in visit.request.match_info else None
    found = filters.notes(visit, _notes(visit, card))
    return visit.listing("notes", found, lambda note: hal.note(visit.account, visit.base, note))


async def get_note(visit: Visit) -> web.Response:
    return visit.answer(hal.note(visit.account, visit.base, _note(visit)))


def _note(visit: Visit) -> Note:
    note = visit.account.notes.get(visit.id("note_id"))
    if note is None or note.kind is not _kind(visit):
        raise ApiError(404, "Note not found")
    if "id" in visit.request.match_info and note.entity_id != visit.id():
        raise ApiError(404, "Note not found")
    return note


async def add_notes(visit: Visit) -> web.Response:
    account, kind = visit.account, _kind(visit)
    named = parent(visit) if "id" in visit.request.match_info else None
    bodies = parse_items(await visit.json(), NoteBody, account)
    cards = [named or account.cards[kind].get(body.entity_id) for body in bodies]
    faulty = [
        (request_id(body, index), [fault("NotSupportedChoice" if body.entity_id else "FieldMissing", "entity_id")])
        for index, (body, card) in enumerate(zip(bodies, cards, strict=True))
        if card is None or card.is_deleted
    ]
    if faulty:
        raise ItemsRefused(faulty)
    answers = []
    for index, (body, card) in enumerate(zip(bodies, cards, strict=True)):
        if card is None:
            continue
        note = account.add_note(card, body.attributes(), by=visit.user.id, request_id=body.request_id or None)
        answers.append(
            {"id": note.id, "entity_id": card.id, "request_id": request_id(body, index)}
            | hal.note_links(visit.base, note)
        )
    return visit.embed("notes", answers)


async def change_notes(visit: Visit) -> web.Response:
    return visit.embed("notes", _changed_notes(visit, await visit.json()))


async def change_note(visit: Visit) -> web.Response:
    _note(visit)
    raw = await visit.json()
    if not isinstance(raw, dict) or not raw:
        raise ApiError(400)
    answers = _changed_notes(visit, [raw | {"id": visit.id("note_id")}])
    if visit.account.switches.single_patch == "object":
        return visit.answer(answers[0])
    return visit.embed("notes", answers)


def _changed_notes(visit: Visit, raw: object) -> list[dict[str, Any]]:
    account = visit.account
    bodies = parse_items(raw, NoteChange, account)
    faulty = [
        (request_id(body, index), [fault("NotSupportedChoice", "id")])
        for index, body in enumerate(bodies)
        if account.notes[body.id] not in _notes(visit, parent(visit) if "id" in visit.request.match_info else None)
    ]
    if faulty:
        raise ItemsRefused(faulty)
    answers = []
    for index, body in enumerate(bodies):
        note = account.change_note(account.notes[body.id], body.attributes(), by=visit.user.id)
        answers.append(
            {
                "id": note.id,
                "entity_id": note.entity_id,
                "updated_at": note.updated_at,
                "request_id": request_id(body, index),
            }
            | hal.note_links(visit.base, note)
        )
    return answers


async def pin_note(visit: Visit) -> web.Response:
    note = visit.account.change_note(_note(visit), {"is_pinned": visit.part("action") == "pin"}, by=visit.user.id)
    return visit.answer(hal.note(visit.account, visit.base, note))


async def list_tasks(visit: Visit) -> web.Response:
    return visit.listing("tasks", filters.tasks(visit), lambda task: hal.task(visit.account, visit.base, task))


async def get_task(visit: Visit) -> web.Response:
    task = visit.account.tasks.get(visit.id())
    return empty() if task is None else visit.answer(hal.task(visit.account, visit.base, task))


async def add_tasks(visit: Visit) -> web.Response:
    answers = []
    for index, body in enumerate(parse_items(await visit.json(), TaskBody, visit.account)):
        task = visit.account.add_task(body.attributes(), by=visit.user.id, request_id=body.request_id or None)
        answers.append(
            {"id": task.id, "request_id": request_id(body, index)} | hal.links(visit.base, f"tasks/{task.id}")
        )
    return visit.embed("tasks", answers)


async def change_tasks(visit: Visit) -> web.Response:
    return visit.embed("tasks", _changed_tasks(visit, await visit.json()))


async def change_task(visit: Visit) -> web.Response:
    raw = await visit.json()
    if not isinstance(raw, dict) or not raw:
        raise ApiError(400)
    answers = _changed_tasks(visit, [raw | {"id": visit.id()}])
    if visit.account.switches.single_patch == "object":
        return visit.answer(answers[0])
    return visit.embed("tasks", answers)


def _changed_tasks(visit: Visit, raw: object) -> list[dict[str, Any]]:
    account = visit.account
    answers = []
    for index, body in enumerate(parse_items(raw, TaskChange, account)):
        task = account.change_task(account.tasks[body.id], body.attributes(), by=visit.user.id)
        answers.append(
            {"id": task.id, "updated_at": task.updated_at, "request_id": request_id(body, index)}
            | hal.links(visit.base, f"tasks/{task.id}")
        )
    return answers


_KIND = "/{kind:contacts|companies|leads}"
_NOTES = _KIND + "/{id:[0-9]+}/notes"
ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", "/calls", add_calls),
    ("GET", _KIND + "/notes", list_notes),
    ("POST", _KIND + "/notes", add_notes),
    ("PATCH", _KIND + "/notes", change_notes),
    ("GET", _KIND + "/notes/{note_id:[0-9]+}", get_note),
    ("POST", _KIND + "/notes/{note_id:[0-9]+}/{action:pin|unpin}", pin_note),
    ("GET", _NOTES, list_notes),
    ("POST", _NOTES, add_notes),
    ("PATCH", _NOTES, change_notes),
    ("GET", _NOTES + "/{note_id:[0-9]+}", get_note),
    ("PATCH", _NOTES + "/{note_id:[0-9]+}", change_note),
    ("GET", "/tasks", list_tasks),
    ("POST", "/tasks", add_tasks),
    ("PATCH", "/tasks", change_tasks),
    ("GET", "/tasks/{id:[0-9]+}", get_task),
    ("PATCH", "/tasks/{id:[0-9]+}", change_task),
]
