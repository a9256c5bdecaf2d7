"""The registration of one ended call: its durable steps in their order, each open to its customization."""

from __future__ import annotations

from itgrix_kommo.calls.call import StageName
from itgrix_kommo.pipeline.registration.call import write_call
from itgrix_kommo.pipeline.registration.client import create_client, create_contact, find_client
from itgrix_kommo.pipeline.registration.desk import Skip
from itgrix_kommo.pipeline.registration.follow_up import close_tasks, create_task, update_contact, update_lead
from itgrix_kommo.pipeline.registration.lead import create_lead
from itgrix_kommo.pipeline.registration.recording import add_link, prepare_recording
from itgrix_kommo.pipeline.registration.sheet import Sheet

HIDDEN = "the client's number is hidden: nobody to register the call for"
UNWANTED = "need_registration said no"


async def walk(sheet: Sheet) -> str:
    """Do what is left to do; why it was skipped, or empty. Raises KommoError or Settling when it can't go on.

    What is not saved in the end is for who asked: see `Sheet.unsaved`.
    """
    try:
        await _take_phone(sheet, StageName.CALL_ENDED)
        await _weigh(sheet, StageName.CALL_ENDED)
        await prepare_recording(sheet)
        await find_client(sheet)
        await create_client(sheet)
        await create_lead(sheet)
        await write_call(sheet)
        await update_contact(sheet)
        await update_lead(sheet)
        await create_task(sheet)
        await close_tasks(sheet)
        await add_link(sheet)
        await _tell_of_it(sheet)
    except Skip as skipped:
        return str(skipped)
    return ""


async def walk_early(sheet: Sheet, stage: StageName) -> str:
    """Find or make contact and lead while the call goes on; the rest follows at its end, in a row of its own."""
    try:
        await _take_phone(sheet, stage)
        await _weigh(sheet, stage)
        await find_client(sheet)
        if sheet.progress.entity is None and sheet.rules.business.create_contacts:
            await create_contact(sheet)
        if sheet.progress.entity is not None:
            await create_lead(sheet)
    except Skip as skipped:
        return str(skipped)
    return ""


async def _take_phone(sheet: Sheet, stage: StageName) -> None:
    """The phone that is registered: the customization's word on the raw one."""
    if sheet.progress.phone is None:
        given = {"phone": sheet.raw_phone, "call_stage": stage.value}
        data = await sheet.ask("process_client_phone", given)
        await sheet.save(phone=str(data["phone"]) if data else "")
    if not sheet.phone:
        raise Skip(HIDDEN)


async def _weigh(sheet: Sheet, stage: StageName) -> None:
    """Whether the call is wanted, by the lists and by the customization."""
    if sheet.done("wanted"):
        return
    if reason := sheet.rules.unlisted(sheet.call, sheet.phone):
        raise Skip(reason)
    data = await sheet.ask("need_registration", {"call_stage": stage.value})
    if data is not None and not data["result"]:
        raise Skip(UNWANTED)
    await sheet.finish("wanted")


async def _tell_of_it(sheet: Sheet) -> None:
    if not sheet.done("post_registration"):
        await sheet.ask("post_registration", {})
        await sheet.finish("post_registration")
