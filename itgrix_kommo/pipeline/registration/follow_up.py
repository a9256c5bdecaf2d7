"""What follows the call: updates of contact and lead, the call-back task, and its completion."""

from __future__ import annotations

import structlog

from itgrix_kommo.config import Hook
from itgrix_kommo.kommo import recognition
from itgrix_kommo.kommo.batches import Added, Refused
from itgrix_kommo.kommo.bodies import for_api
from itgrix_kommo.pipeline.progress import Card, Writing
from itgrix_kommo.pipeline.registration.sheet import CANCELLED, Sheet
from itgrix_kommo.pipeline.rules import ROBOT
from itgrix_kommo.pipeline.texts import TASK_RESULTS

_log = structlog.get_logger(__name__)


async def update_contact(sheet: Sheet) -> None:
    entity = sheet.entity
    if entity.type == "contacts" and not (sheet.progress.deal and sheet.progress.deal.is_unsorted):
        await _update(sheet, "process_contact_update_params", "contacts", entity.id, entity.responsible_id)


async def update_lead(sheet: Sheet) -> None:
    deal = sheet.progress.deal
    if deal is not None and not deal.is_unsorted:
        await _update(sheet, "process_lead_update_params", "leads", deal.id, deal.responsible_id)


async def _update(sheet: Sheet, hook: Hook, entity_type: str, card_id: int, responsible_id: int) -> None:
    """Who answered may become responsible; a customization may change anything. Nothing is sent for no change."""
    if sheet.done(hook):
        return
    answered_by = sheet.call.responsible.id if sheet.call.responsible else ROBOT
    wanted = responsible_id
    if sheet.rules.business.reassign_on_answer and sheet.call.was_answered and answered_by != ROBOT:
        wanted = answered_by
    if hook not in sheet.desk.hooks.hooks and wanted == responsible_id:
        return
    params = sheet.params.update(card_id, wanted)
    data = await sheet.ask(hook, params)
    if data is None:
        await sheet.finish(hook, note=f"{CANCELLED}: {entity_type}/{card_id} stays as it is")
        return
    body = for_api("contact_update" if entity_type == "contacts" else "lead_update", {**data, "id": card_id})
    if body.get("responsible_user_id") in {ROBOT, responsible_id}:
        body.pop("responsible_user_id", None)
    if body.keys() - {"id"}:
        await sheet.write(hook, body, sheet.desk.mail.updates(entity_type))
        _log.info("card_updated", on=f"{entity_type}/{card_id}")
    await sheet.finish(hook, writing=None)


async def create_task(sheet: Sheet) -> None:
    if sheet.done("task") or not sheet.rules.wants_task(sheet.call):
        return
    ended = sheet.call.ended_at or sheet.call.started_at
    if sheet.desk.now() - ended > sheet.rules.business.tasks.max_age_hours * 3600:
        await sheet.finish("task", note="no task: the call is too long ago")
        return
    if await sheet.history.reached_after(ended):
        await sheet.finish("task", note="no task: the client was reached since")
        return
    entity_type, entity_id = sheet.card()
    deal = sheet.progress.deal if entity_type == "leads" else None
    params = sheet.params.task(sheet.entity, deal, sheet.responsible(sheet.entity), sheet.rules.due(ended))
    data = await sheet.ask("process_task_creation_params", params)
    if data is None:
        await sheet.finish("task", note=f"{CANCELLED}: no task")
        return
    body = for_api("task", data)
    if not body.get("responsible_user_id"):
        body.pop("responsible_user_id", None)

    async def find(writing: Writing) -> Added | None:
        tasks = await sheet.desk.client.tasks(body["entity_type"], body["entity_id"])
        task = recognition.written_task(tasks, writing.body, writing.since, known=await _known_tasks(sheet))
        return Added("", task.id) if task else None

    added = await sheet.once("task", body, sheet.desk.mail.tasks, find)
    task = Card(id=added.id, entity_type=str(body["entity_type"]), entity_id=int(body["entity_id"]))
    await sheet.finish("task", task=task, task_closed=bool(body.get("is_completed")), writing=None)
    _log.info("task_created", task_id=added.id, on=f"{entity_type}/{entity_id}")


async def _known_tasks(sheet: Sheet) -> set[int]:
    earlier = await sheet.history.earlier()
    return {one.progress.task.id for one in earlier if one.progress.task is not None}


async def close_tasks(sheet: Sheet) -> None:
    """The client was reached, in whichever direction: nobody need call him back any more."""
    if sheet.done("close") or not sheet.call.was_answered or not sheet.rules.business.tasks.complete_on_contact:
        return
    open_tasks = {
        one.progress.task.id: one
        for one in await sheet.history.earlier()
        if one.progress.task is not None and not one.progress.task_closed
    }
    if open_tasks:
        words = TASK_RESULTS[sheet.rules.language]
        await sheet.save_rest()
        for outcome in await sheet.desk.client.complete_tasks(open_tasks, words):
            if not isinstance(outcome, Added | Refused):
                raise outcome.error
        for one in open_tasks.values():
            closed = one.progress.model_copy(update={"task_closed": True})
            await sheet.history.save(one.id, closed.model_dump(mode="json"))
        _log.info("tasks_completed", task_ids=sorted(open_tasks))
    await sheet.finish("close")
