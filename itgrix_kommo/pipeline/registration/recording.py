"""The recording's link: in the call where it is ready in time, else added to it later."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import structlog

from itgrix_kommo.errors import RecordingUnfinished
from itgrix_kommo.kommo import recognition
from itgrix_kommo.kommo.batches import Unanswered
from itgrix_kommo.kommo.client import EntityType
from itgrix_kommo.pipeline.registration.desk import Recorder, Settling
from itgrix_kommo.pipeline.registration.sheet import Sheet
from itgrix_kommo.recordings.recording import CallFacts, Prepared

RECORDING_WITHIN = 20.0
"""Seconds that a registration waits for its recording to be complete and converted."""

LOOK_AGAIN, RECORDING_GIVEN_UP = 10.0, 1800.0
"""Seconds between later looks for a recording, and after the call's end when it is given up."""

_log = structlog.get_logger(__name__)


async def prepare_recording(sheet: Sheet) -> None:
    """Have a link to it, if it is complete in time; else the call is written without, and the link added later."""
    if sheet.done("recording"):
        return
    if sheet.desk.recordings is None:
        # The node that has it takes the call up again when it is back.
        conversation = sheet.call.conversation(sheet.call.accepted_id)
        await sheet.finish("recording", link_is_due=conversation is not None and bool(conversation.recording))
        return
    is_due = False
    try:
        async with asyncio.timeout(RECORDING_WITHIN):
            await _take(sheet, sheet.desk.recordings)
    except (TimeoutError, RecordingUnfinished):
        _log.debug("recording_not_ready", within_s=RECORDING_WITHIN)
        is_due = True
    await sheet.finish("recording", link_is_due=is_due)


async def _take(sheet: Sheet, recorder: Recorder) -> None:
    conversation = sheet.call.conversation(sheet.call.accepted_id)
    if conversation is None or not conversation.recording:
        if conversation is not None:
            _log.debug("recording_none")
        return
    facts = CallFacts(
        recording_id=f"{sheet.rules.node}-{conversation.id}",
        called_at=datetime.fromtimestamp(sheet.call.started_at, sheet.rules.timezone).astimezone(),
        client=sheet.phone,
        employee=", ".join(conversation.user.phones[:1]) if conversation.user else "",
    )

    async def customize(path: Path) -> str | None:
        given = {"path": str(path), "conversation_id": conversation.id}
        data = await sheet.ask("process_record_file_path", given)
        return str(data["path"]) if data else None

    prepared = await recorder.prepare(conversation.recording, facts, customize)
    has_link = isinstance(prepared, Prepared)
    _log.debug("recording_prepared", file=conversation.recording, has_link=has_link, words=prepared.words)
    if isinstance(prepared, Prepared):
        await sheet.save(link=prepared.link, notes=[*sheet.progress.notes, *filter(None, [prepared.words])])
    else:
        await sheet.save(notes=[*sheet.progress.notes, prepared.words])


async def add_link(sheet: Sheet) -> None:
    """The recording was not complete when the call was written: its link follows, once."""
    if sheet.done("link") or not sheet.progress.link_is_due or sheet.desk.recordings is None:
        return
    now, ended = sheet.desk.now(), sheet.call.ended_at or sheet.call.started_at
    await sheet.save_rest()
    if not sheet.progress.link:
        try:
            async with asyncio.timeout(RECORDING_WITHIN):
                await _take(sheet, sheet.desk.recordings)
        except (TimeoutError, RecordingUnfinished):
            if now - ended < RECORDING_GIVEN_UP:
                raise Settling(now + LOOK_AGAIN) from None
            await sheet.save(notes=[*sheet.progress.notes, "no recording: its file was never complete"])
    card = sheet.progress.call
    if sheet.progress.link and card is not None:
        notes = await sheet.desk.client.notes(cast("EntityType", card.entity_type), card.entity_id)
        note = next((one for one in notes if one.id == card.id), None)
        if note is not None:
            body = recognition.call_note_with(note, link=sheet.progress.link)
            (outcome,) = await sheet.desk.client.update_call_notes(cast("EntityType", card.entity_type), [body])
            if isinstance(outcome, Unanswered):
                raise outcome.error
            _log.info("recording_linked", note_id=card.id)
    await sheet.finish("link")


def lacks_link(progress: dict[str, Any]) -> bool:
    """Whether this registration was finished by a node that could not have its recording."""
    return bool(progress.get("link_is_due")) and "link" not in progress.get("steps", ())
