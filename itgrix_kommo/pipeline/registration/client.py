"""Who the client is: found in Kommo, or made there as an incoming lead or a contact."""

from __future__ import annotations

import structlog

from itgrix_kommo.calls.call import CallType
from itgrix_kommo.kommo import recognition
from itgrix_kommo.kommo.batches import Added
from itgrix_kommo.kommo.bodies import for_api
from itgrix_kommo.kommo.client import UnsortedState
from itgrix_kommo.pipeline.clients import Found
from itgrix_kommo.pipeline.intake import EARLY
from itgrix_kommo.pipeline.progress import Deal, Entity, Writing
from itgrix_kommo.pipeline.registration.desk import Skip
from itgrix_kommo.pipeline.registration.sheet import CANCELLED, Sheet
from itgrix_kommo.pipeline.rules import ROBOT

NO_ENTITY = "no entity: the client is unknown and nothing may be created for him"

_log = structlog.get_logger(__name__)


async def find_client(sheet: Sheet) -> None:
    """A client whose entry still waits among the incoming leads has no card yet: his calls go to its lead."""
    if sheet.progress.entity is not None or await _find_early(sheet) or await _find_unsorted(sheet):
        return
    found = await sheet.desk.clients.find(sheet.phone) or await _find_made(sheet)
    if found is None:
        _log.debug("client_unknown")
        return
    made_by_us = sheet.is_writing("contact")
    entity = found.entity.model_copy(update={"is_new": made_by_us and found.entity.is_sole})
    deal = found.open_leads[0] if found.open_leads else None
    writing = None if made_by_us else sheet.progress.writing
    on = f"{entity.type}/{entity.id}"
    _log.debug("client_found", on=on, open_leads=[lead.id for lead in found.open_leads], is_sole=entity.is_sole)
    await sheet.save(entity=entity, open_leads=list(found.open_leads), deal=deal, writing=writing)


async def _find_early(sheet: Sheet) -> bool:
    """What was made while this call went on: Kommo's search may not show it yet."""
    for earlier in await sheet.history.earlier():
        if earlier.call_id.removesuffix(EARLY) in sheet.call.aliases and earlier.progress.entity is not None:
            early = earlier.progress
            made = ["lead"] if "lead" in early.steps else []
            await sheet.save(entity=early.entity, deal=early.deal, open_leads=early.open_leads, steps=made)
            return True
    return False


async def _find_made(sheet: Sheet) -> Found | None:
    """Whom an earlier call of his made: Kommo's search may not show him yet, and a crash forgets what we learnt."""
    for earlier in await sheet.history.earlier():
        made = earlier.progress.entity
        if made is not None and made.is_new and made.id:
            return await sheet.desk.clients.find_made(sheet.phone, made)
    return None


async def _find_unsorted(sheet: Sheet) -> bool:
    for earlier in await sheet.history.earlier():
        deal, entity = earlier.progress.deal, earlier.progress.entity
        if deal is not None and entity is not None and deal.is_unsorted:
            state = await sheet.desk.client.unsorted_state(deal.uid, deal.id)
            if state is UnsortedState.PENDING:
                await sheet.save(entity=entity.model_copy(update={"is_new": False}), deal=deal, open_leads=[])
            return state is UnsortedState.PENDING
    return False


async def create_client(sheet: Sheet) -> None:
    if sheet.progress.entity is not None:
        return
    stage = sheet.rules.route(sheet.call)
    if (
        sheet.rules.business.unsorted
        and sheet.call.type is CallType.INCOMING
        and stage.pipeline_id in sheet.rules.unsorted_pipelines
    ):
        await _create_unsorted(sheet)
    elif sheet.rules.business.create_contacts:
        await create_contact(sheet)
    else:
        raise Skip(NO_ENTITY)


async def _create_unsorted(sheet: Sheet) -> None:
    params = sheet.params.unsorted(sheet.progress.link)
    data = await sheet.ask("process_unsorted_creation_params", params)
    if data is None:
        raise Skip(f"{CANCELLED}: no entry among the incoming leads")
    body = for_api("unsorted", {**data, "source_uid": sheet.uniq})
    body["metadata"] = {**body.get("metadata", {}), "uniq": sheet.uniq}
    if not body["metadata"].get("link"):
        body["metadata"].pop("link", None)

    async def find(writing: Writing) -> Added | None:
        # Kommo dates an entry as we did: by the call, which may have waited for days.
        begun = min(writing.since, float(writing.body.get("created_at") or writing.since))
        entries = await sheet.desk.client.recent_unsorted(begun - recognition.SKEW)
        entry = recognition.written_unsorted(entries, writing.body)
        if entry is None:
            return None
        contact = entry.contact_ids[0] if entry.contact_ids else 0
        return Added("", entry.lead_ids[0] if entry.lead_ids else 0, "contacts", contact, entry.uid)

    added = await sheet.once("unsorted", body, sheet.desk.mail.unsorted, find)
    deal = Deal(
        id=added.id, name=str(params["_embedded"]["leads"][0]["name"]), is_new=True, is_unsorted=True, uid=added.uid
    )
    entity = Entity(type="contacts", id=added.entity_id or 0, phones=[sheet.phone], is_new=True)
    await sheet.save(entity=entity, deal=deal, open_leads=[], writing=None)
    _log.info("unsorted_created", uid=added.uid, lead_id=added.id)


async def create_contact(sheet: Sheet) -> None:
    responsible = sheet.responsible(None)
    params = sheet.params.contact(responsible)
    data = await sheet.ask("process_contact_creation_params", params)
    if data is None:
        raise Skip(f"{CANCELLED}: no contact")

    async def find(_: Writing) -> Added | None:
        return None  # `_find` has looked already

    body = for_api("contact", data)
    added = await sheet.once("contact", body, sheet.desk.mail.contacts, find)
    entity = Entity(
        type="contacts",
        id=added.id,
        name=str(data.get("name") or ""),
        phones=[sheet.phone],
        responsible_id=int(data.get("responsible_user_id") or ROBOT),
        is_new=True,
    )
    await sheet.save(entity=entity, open_leads=[], writing=None)
    sheet.desk.clients.made(sheet.phone, entity)
    _log.info("contact_created", contact_id=entity.id)
