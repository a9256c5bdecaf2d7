"""The registration of one ended call, as durable steps: find the client, or create him, then write the call.

What is about to be written is noted in the row first, so that whoever takes the row up again knows that it may have
been written already, waits until Kommo would show it, and looks before writing a second time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from pydantic import BaseModel

from itgrix_kommo.calls.call import Call, CallType
from itgrix_kommo.errors import KommoRejected
from itgrix_kommo.kommo.batches import Added, Outcome, Refused
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.models import Contact
from itgrix_kommo.pipeline.bodies import ROBOT, call_body, call_note_body, contact_body
from itgrix_kommo.pipeline.texts import Language

SETTLE = 15.0
"""Seconds after which what was written is found by Kommo's search; before that, not finding it proves nothing."""

ENTITY_NOT_FOUND = 263

_log = structlog.get_logger(__name__)


class Settling(Exception):
    """Something may have been written a moment ago; whether it was can be seen from `until` on."""

    def __init__(self, until: float) -> None:
        super().__init__(f"waiting for Kommo to show what may have been written, until {until:.0f}")
        self.until = until


class FoundContact(BaseModel):
    """`sole` tells that no other contact has the phone, so Kommo's own matching finds the same one."""

    id: int
    responsible_id: int
    created: bool
    sole: bool


class WrittenCall(BaseModel):
    note_id: int
    entity_type: str
    entity_id: int


class Progress(BaseModel):
    """How far a registration has come; `writing` names the request whose answer is still unknown."""

    phone: str = ""
    contact: FoundContact | None = None
    call: WrittenCall | None = None
    writing: Literal["contact", "call"] | None = None
    writing_since: float = 0.0


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration and the account say about every registration."""

    phone_field_id: int
    create_contacts: bool
    default_user_id: int | None
    missed_responsible: Literal["entity", "rung", "default"]
    tags: tuple[str, ...]
    language: Language


NO_ENTITY = "no entity: the client is unknown and nothing may be created for him"


class Steps:
    """One walk through one registration. `save` makes the progress durable."""

    def __init__(
        self,
        call: Call,
        phone: str,
        progress: Progress,
        *,
        client: KommoClient,
        rules: Rules,
        save: Callable[[dict[str, Any]], Awaitable[None]],
        now: Callable[[], float],
    ) -> None:
        self.call = call
        self.phone = phone
        self.progress = progress
        self._client = client
        self._rules = rules
        self._save_row = save
        self._now = now

    async def walk(self) -> str:
        """Do what is left to do; why it was skipped, or empty. Raises KommoError or Settling where it can't go on."""
        progress = self.progress
        if progress.contact is None:
            progress.contact = await self._find_contact()
        if progress.contact is None:
            if not self._rules.create_contacts:
                return NO_ENTITY
            progress.contact = await self._create_contact()
        if progress.call is None:
            progress.call = await self._write_call(progress.contact)
        return ""

    # The client

    async def _find_contact(self) -> FoundContact | None:
        """The oldest contact with the phone; asked afresh until one is chosen."""
        contacts = await self._client.find_contacts(self.phone)
        if not contacts:
            if self.progress.writing == "contact":
                self._settle()
            return None
        contact = contacts[0]
        found = FoundContact(
            id=contact.id,
            responsible_id=contact.responsible_user_id,
            created=self.progress.writing == "contact" and len(contacts) == 1,
            sole=len(contacts) == 1,
        )
        await self._save(contact=found, writing=None)
        return found

    async def _create_contact(self) -> FoundContact:
        responsible = self._responsible(None)
        body = contact_body(
            self.phone,
            field_id=self._rules.phone_field_id,
            responsible_id=responsible,
            tags=self._rules.tags,
            language=self._rules.language,
        )
        added = await self._write("contact", lambda: self._client.create_contacts([body]))
        created = FoundContact(id=added.id, responsible_id=responsible, created=True, sole=True)
        await self._save(contact=created, writing=None)
        _log.info("contact_created", contact_id=created.id)
        return created

    # The call

    async def _write_call(self, contact: FoundContact) -> WrittenCall:
        if self.progress.writing == "call":
            written = await self._find_call(contact)
            if written is not None:
                await self._save(call=written, writing=None)
                return written
            self._settle()
        body = call_body(
            self.call,
            self.phone,
            responsible_id=self._responsible(contact),
            language=self._rules.language,
        )
        if contact.sole and not contact.created:
            try:
                added = await self._write("call", lambda: self._client.add_calls([body]))
            except KommoRejected as error:
                if error.status != ENTITY_NOT_FOUND:
                    raise
                _log.info("call_not_matched", contact_id=contact.id, remedy="it is written as a note on the contact")
            else:
                return await self._keep_call(added, contact)
        # Kommo's own matching may not know the contact yet, or may choose another one.
        note = call_note_body(body, contact.id)
        added = await self._write("call", lambda: self._client.add_call_notes("contacts", [note]))
        return await self._keep_call(added, contact)

    async def _keep_call(self, added: Added, contact: FoundContact) -> WrittenCall:
        written = WrittenCall(
            note_id=added.id,
            entity_type=added.entity_type or "contacts",
            entity_id=added.entity_id or contact.id,
        )
        await self._save(call=written, writing=None)
        _log.info("call_registered", note_id=written.note_id, on=f"{written.entity_type}/{written.entity_id}")
        return written

    async def _find_call(self, contact: FoundContact) -> WrittenCall | None:
        """The call's note, on the contact's card or on one of his leads', wherever Kommo's matching put it."""
        known: Contact | None = await self._client.contact(contact.id)
        lead_ids = [lead.id for lead in known.embedded.leads] if known is not None else []
        for note in await self._client.notes("contacts", contact.id):
            if note.uniq == self.call.id:
                return WrittenCall(note_id=note.id, entity_type="contacts", entity_id=contact.id)
        for lead_id in sorted(lead_ids, reverse=True):
            for note in await self._client.notes("leads", lead_id):
                if note.uniq == self.call.id:
                    return WrittenCall(note_id=note.id, entity_type="leads", entity_id=lead_id)
        return None

    # How it is done

    def _responsible(self, contact: FoundContact | None) -> int:
        """The user of the last accepted conversation, or who tried to ring the client; a missed one as configured."""
        call, rules = self.call, self._rules
        default = rules.default_user_id or ROBOT
        if call.was_answered:
            return call.responsible.id if call.responsible else default
        rung = call.rung_last.id if call.rung_last else ROBOT
        if call.type is CallType.OUTGOING:
            return rung if rung != ROBOT else default
        entity = contact.responsible_id if contact and not contact.created else ROBOT
        order = {"entity": (entity, rung), "rung": (rung,), "default": ()}[rules.missed_responsible]
        return next((user for user in order if user != ROBOT), default)

    async def _write(self, what: Literal["contact", "call"], send: Callable[[], Awaitable[list[Outcome]]]) -> Added:
        await self._save(writing=what, writing_since=self._now())
        (outcome,) = await send()
        if isinstance(outcome, Added):
            return outcome
        if isinstance(outcome, Refused):
            await self._save(writing=None)
            raise KommoRejected(
                f"Kommo refused the {what}: {outcome.title}: {outcome.detail}: mend it and retry",
                status=outcome.status or 400,
            )
        if not outcome.error.may_have_happened:
            await self._save(writing=None)
        raise outcome.error

    def _settle(self) -> None:
        until = self.progress.writing_since + SETTLE
        if self._now() < until:
            raise Settling(until)

    async def _save(self, **changes: Any) -> None:
        self.progress = self.progress.model_copy(update=changes)
        await self._save_row(self.progress.model_dump(mode="json"))
