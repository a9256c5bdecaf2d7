"""The call itself, as Kommo matches it by its phone, or as a note on the card we mean."""

from __future__ import annotations

from functools import partial
from typing import Any

import structlog

from itgrix_kommo.errors import KommoRejected
from itgrix_kommo.kommo import recognition
from itgrix_kommo.kommo.batches import Added
from itgrix_kommo.kommo.bodies import for_api
from itgrix_kommo.pipeline.progress import Card, Writing
from itgrix_kommo.pipeline.registration.sheet import CANCELLED, ENTITY_NOT_FOUND, Sheet
from itgrix_kommo.pipeline.rules import ROBOT

_log = structlog.get_logger(__name__)


async def write_call(sheet: Sheet) -> None:
    if sheet.done("call"):
        return
    params = sheet.params.call(sheet.responsible(sheet.entity), sheet.progress.link)
    data = await sheet.ask("process_call_params", params)
    if data is None:
        await sheet.finish("call", note=f"{CANCELLED}: the call itself is not written")
        return
    body = {**for_api("call", data), "uniq": sheet.uniq}
    responsible = int(body.get("responsible_user_id") or ROBOT)
    if responsible != ROBOT:
        body["call_responsible"] = responsible
    else:
        body.pop("responsible_user_id", None)
    if not body.get("link"):
        body.pop("link", None)
    card = await _post(sheet, body)
    await sheet.finish("call", call=card, writing=None)
    _log.info("call_registered", note_id=card.id, on=f"{card.entity_type}/{card.entity_id}")


async def _post(sheet: Sheet, body: dict[str, Any]) -> Card:
    entity_type, entity_id = sheet.card()
    if _matches_by_itself(sheet) and not sheet.is_writing("call note"):
        try:
            added = await sheet.once("call", body, sheet.desk.mail.calls, partial(_find, sheet))
        except KommoRejected as error:
            if error.status != ENTITY_NOT_FOUND:
                raise
            _log.info("call_not_matched", on=f"{entity_type}/{entity_id}", remedy="it is written there as a note")
        else:
            return Card(
                id=added.id, entity_type=added.entity_type or entity_type, entity_id=added.entity_id or entity_id
            )
    note = call_note(body, entity_id)
    added = await sheet.once("call note", note, sheet.desk.mail.notes(entity_type), partial(_find, sheet))
    return Card(id=added.id, entity_type=added.entity_type or entity_type, entity_id=added.entity_id or entity_id)


def _matches_by_itself(sheet: Sheet) -> bool:
    """Whether Kommo, given the phone, surely finds the card we mean. It may not know yet what we just made."""
    deal = sheet.progress.deal
    made_now = sheet.entity.is_new or (deal is not None and (deal.is_new or deal.is_unsorted))
    return sheet.entity.is_sole and not made_now


async def _find(sheet: Sheet, _: Writing) -> Added | None:
    """Its note, on the client's card or on one of his leads', wherever Kommo's matching put it."""
    entity, client = sheet.entity, sheet.desk.client
    read = client.contact if entity.type == "contacts" else client.company
    card = await read(entity.id)
    note = recognition.written_call(await client.notes(entity.type, entity.id), sheet.uniq)
    if note is not None:
        return Added("", note.id, entity.type, entity.id)
    deal = sheet.progress.deal
    leads = {*(card.lead_ids if card else ()), *((deal.id,) if deal else ())}
    for lead_id in sorted(leads, reverse=True):
        note = recognition.written_call(await client.notes("leads", lead_id), sheet.uniq)
        if note is not None:
            return Added("", note.id, "leads", lead_id)
    return None


def call_note(body: dict[str, Any], entity_id: int) -> dict[str, Any]:
    """The same call as a note on a card of our choice."""
    note = {
        "entity_id": entity_id,
        "note_type": "call_in" if body["direction"] == "inbound" else "call_out",
        "params": {key: body[key] for key in recognition.CALL_PARAMS if key in body},
    }
    return note | {key: body[key] for key in ("created_by", "responsible_user_id", "created_at") if key in body}
