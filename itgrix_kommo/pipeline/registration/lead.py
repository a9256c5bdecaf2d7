"""The client's new lead."""

from __future__ import annotations

import structlog

from itgrix_kommo.kommo import recognition
from itgrix_kommo.kommo.batches import Added
from itgrix_kommo.kommo.bodies import for_api
from itgrix_kommo.pipeline.progress import Deal, Writing
from itgrix_kommo.pipeline.registration.sheet import CANCELLED, Sheet
from itgrix_kommo.pipeline.rules import ROBOT

_log = structlog.get_logger(__name__)


async def create_lead(sheet: Sheet) -> None:
    wanted = sheet.rules.business.create_leads
    open_leads = sheet.progress.open_leads or []
    deal = sheet.progress.deal
    if sheet.done("lead") or wanted == "never" or (deal is not None and deal.is_unsorted):
        return
    if wanted == "no_open_lead" and open_leads:
        return
    entity = sheet.entity
    responsible = sheet.responsible(entity)
    params = sheet.params.lead(entity, responsible)
    data = await sheet.ask("process_lead_creation_params", params)
    if data is None:
        await sheet.finish("lead", note=f"{CANCELLED}: no lead")
        return
    body = {key: value for key, value in for_api("lead", data).items() if value != 0}
    if entity.type == "companies":
        body["_embedded"] = {**body.get("_embedded", {}), "companies": [{"id": entity.id}]}
    known = {lead.id for lead in open_leads}

    async def find(writing: Writing) -> Added | None:
        read = sheet.desk.client.contact if entity.type == "contacts" else sheet.desk.client.company
        card = await read(entity.id)
        leads = await sheet.desk.client.leads(card.lead_ids) if card else []
        lead = recognition.written_lead(leads, writing.body, writing.since, known=known)
        return Added("", lead.id) if lead else None

    added = await sheet.once("lead", body, sheet.desk.mail.leads, find)
    made = Deal(
        id=added.id,
        name=str(body.get("name") or ""),
        responsible_id=int(body.get("responsible_user_id") or ROBOT),
        pipeline_id=int(body.get("pipeline_id") or 0),
        status_id=int(body.get("status_id") or 0),
        is_new=True,
    )
    await sheet.finish("lead", deal=made, writing=None)
    sheet.desk.clients.made_lead(entity, made)
    _log.info("lead_created", lead_id=made.id)
