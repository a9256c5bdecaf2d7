"""The registration of one ended call, as durable steps, each open to its customization.

What is about to be written is noted in the row first, so that whoever takes the row up again knows that it may have
been written already, waits until Kommo would show it, and looks before writing a second time. What a customization said
is in the row, too: nobody is asked twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, cast

import structlog

from itgrix_kommo.calls.call import Call, CallType, StageName
from itgrix_kommo.config import Hook
from itgrix_kommo.customizations import Verdict
from itgrix_kommo.errors import KommoRejected, RecordingUnfinished
from itgrix_kommo.kommo import recognition
from itgrix_kommo.kommo.batches import Added, Outcome, Refused, Unanswered
from itgrix_kommo.kommo.bodies import for_api
from itgrix_kommo.kommo.client import EntityType, KommoClient, UnsortedState
from itgrix_kommo.pipeline.clients import Clients, Found
from itgrix_kommo.pipeline.intake import EARLY
from itgrix_kommo.pipeline.mail import Mail
from itgrix_kommo.pipeline.params import Params
from itgrix_kommo.pipeline.progress import Card, Deal, Entity, Progress, Writing
from itgrix_kommo.pipeline.rules import ROBOT, Rules
from itgrix_kommo.pipeline.texts import TASK_RESULTS
from itgrix_kommo.recordings.recording import CallFacts, NoRecording, Prepared

SETTLE = 15.0
"""Seconds after which what was written is found by Kommo's search; before that, not finding it proves nothing."""

RECORDING_WITHIN = 20.0
"""Seconds that a registration waits for its recording to be complete and converted."""

LOOK_AGAIN, RECORDING_GIVEN_UP = 10.0, 1800.0
"""Seconds between later looks for a recording, and after the call's end when it is given up."""

ENTITY_NOT_FOUND = 263

HIDDEN = "the client's number is hidden: nobody to register the call for"
UNWANTED = "need_registration said no"
NO_ENTITY = "no entity: the client is unknown and nothing may be created for him"
CANCELLED = "cancelled by customization"

HOOK_BEFORE = {
    "contact": "process_contact_creation_params",
    "lead": "process_lead_creation_params",
    "unsorted": "process_unsorted_creation_params",
    "call": "process_call_params",
    "call note": "process_call_params",
    "task": "process_task_creation_params",
    "process_contact_update_params": "process_contact_update_params",
    "process_lead_update_params": "process_lead_update_params",
}
"""The customization that stands before each kind of writing."""

_log = structlog.get_logger(__name__)


class Settling(Exception):
    """Something may have been written a moment ago; whether it was can be seen from `until` (Unix s) on."""

    def __init__(self, until: float) -> None:
        super().__init__(f"waiting for Kommo to show what may have been written, until {until:.0f}")
        self.until = until


class Skip(Exception):
    """This call is not for Kommo; its words say why."""


class Hooks(Protocol):
    @property
    def hooks(self) -> Sequence[Hook]: ...
    async def call(self, hook: Hook, params: dict[str, Any], *, call_id: str = "") -> Verdict: ...


class Recorder(Protocol):
    async def prepare(
        self, named: str, facts: CallFacts, customize: Callable[[Path], Awaitable[str | None]] | None = None
    ) -> Prepared | NoRecording: ...


@dataclass(frozen=True, slots=True)
class Earlier:
    """Another registration of the same client: its row, and what it has written."""

    id: int
    call_id: str
    progress: Progress


class History(Protocol):
    """What was registered for the same client before."""

    async def earlier(self) -> list[Earlier]: ...
    async def reached_after(self, at: float) -> bool: ...
    async def save(self, number: int, progress: dict[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Desk:
    """What every registration works with."""

    client: KommoClient
    clients: Clients
    mail: Mail
    hooks: Hooks
    rules: Rules
    recordings: Recorder
    now: Callable[[], float]


class Steps:
    """One walk through one registration. `save` makes the progress durable; `raw_phone` has had its replacements."""

    def __init__(
        self,
        call: Call,
        raw_phone: str,
        progress: Progress,
        desk: Desk,
        history: History,
        save: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self.call = call
        self.progress = progress
        self._raw_phone = raw_phone
        self._desk = desk
        self._rules = desk.rules
        self._history = history
        self._save_row = save
        self._is_saved = True
        self._stage = StageName.CALL_ENDED

    async def walk(self) -> str:
        """Do what is left to do; why it was skipped, or empty. Raises KommoError or Settling when it can't go on."""
        try:
            await self._phone()
            await self._is_wanted()
            await self._prepare_recording()
            await self._find()
            await self._create_client()
            await self._create_lead()
            await self._write_call()
            await self._update_contact()
            await self._update_lead()
            await self._create_task()
            await self._close_tasks()
            await self._add_link()
            await self._afterwards()
        except Skip as skipped:
            return str(skipped)
        finally:
            await self._save_rest()
        return ""

    async def walk_early(self, stage: StageName) -> str:
        """Find or make contact and lead while the call goes on; the rest follows at its end, in a row of its own."""
        self._stage = stage
        try:
            await self._phone()
            await self._is_wanted()
            await self._find()
            if self.progress.entity is None and self._rules.business.create_contacts:
                await self._create_contact()
            if self.progress.entity is not None:
                await self._create_lead()
        except Skip as skipped:
            return str(skipped)
        finally:
            await self._save_rest()
        return ""

    # Whose call, and whether

    @property
    def phone(self) -> str:
        return self.progress.phone or ""

    async def _phone(self) -> None:
        if self.progress.phone is None:
            given = {"phone": self._raw_phone, "call_full": self._full(), "call_stage": self._stage.value}
            data = await self._ask("process_client_phone", given)
            await self._save(phone=str(data["phone"]) if data else "")
        if not self.phone:
            raise Skip(HIDDEN)

    async def _is_wanted(self) -> None:
        if self._done("wanted"):
            return
        if reason := self._rules.unlisted(self.call, self.phone):
            raise Skip(reason)
        data = await self._ask("need_registration", {"call_full": self._full(), "call_stage": self._stage.value})
        if data is not None and not data["result"]:
            raise Skip(UNWANTED)
        await self._finish("wanted")

    # The recording

    async def _prepare_recording(self) -> None:
        """Have a link to it, if it is complete in time; else the call is written without, and the link added later."""
        if self._done("recording"):
            return
        is_due = False
        try:
            async with asyncio.timeout(RECORDING_WITHIN):
                await self._take_recording()
        except (TimeoutError, RecordingUnfinished):
            is_due = True
        await self._finish("recording", link_is_due=is_due)

    async def _take_recording(self) -> None:
        conversation = self.call.conversation(self.call.accepted_id)
        if conversation is None or not conversation.recording:
            return
        facts = CallFacts(
            recording_id=f"{self._rules.node}-{conversation.id}",
            called_at=datetime.fromtimestamp(self.call.started_at, self._rules.timezone).astimezone(),
            client=self.phone,
            employee=", ".join(conversation.user.phones[:1]) if conversation.user else "",
        )

        async def customize(path: Path) -> str | None:
            given = {"path": str(path), "call_full": self._full(), "conversation_id": conversation.id}
            data = await self._ask("process_record_file_path", given)
            return str(data["path"]) if data else None

        prepared = await self._desk.recordings.prepare(conversation.recording, facts, customize)
        if isinstance(prepared, Prepared):
            await self._save(link=prepared.link, notes=[*self.progress.notes, *filter(None, [prepared.words])])
        else:
            await self._save(notes=[*self.progress.notes, prepared.words])

    async def _add_link(self) -> None:
        """The recording was not complete when the call was written: its link follows, once."""
        if self._done("link") or not self.progress.link_is_due:
            return
        now, ended = self._desk.now(), self.call.ended_at or self.call.started_at
        if not self.progress.link:
            try:
                async with asyncio.timeout(RECORDING_WITHIN):
                    await self._take_recording()
            except (TimeoutError, RecordingUnfinished):
                if now - ended < RECORDING_GIVEN_UP:
                    raise Settling(now + LOOK_AGAIN) from None
                await self._save(notes=[*self.progress.notes, "no recording: its file was never complete"])
        card = self.progress.call
        if self.progress.link and card is not None:
            notes = await self._desk.client.notes(cast("EntityType", card.entity_type), card.entity_id)
            note = next((one for one in notes if one.id == card.id), None)
            if note is not None:
                body = recognition.call_note_with(note, link=self.progress.link)
                (outcome,) = await self._desk.client.update_call_notes(cast("EntityType", card.entity_type), [body])
                if isinstance(outcome, Unanswered):
                    raise outcome.error
                _log.info("recording_linked", note_id=card.id)
        await self._finish("link")

    # Who the client is

    async def _find(self) -> None:
        """A client whose entry still waits among the incoming leads has no card yet: his calls go to its lead."""
        if self.progress.entity is not None or await self._find_early() or await self._find_unsorted():
            return
        found = await self._desk.clients.find(self.phone) or await self._find_made()
        if found is None:
            return
        made_by_us = self._is_writing("contact")
        entity = found.entity.model_copy(update={"is_new": made_by_us and found.entity.is_sole})
        deal = found.open_leads[0] if found.open_leads else None
        writing = None if made_by_us else self.progress.writing
        await self._save(entity=entity, open_leads=list(found.open_leads), deal=deal, writing=writing)

    async def _find_early(self) -> bool:
        """What was made while this call went on: Kommo's search may not show it yet."""
        for earlier in await self._history.earlier():
            if earlier.call_id.removesuffix(EARLY) in self.call.aliases and earlier.progress.entity is not None:
                early = earlier.progress
                made = ["lead"] if "lead" in early.steps else []
                await self._save(entity=early.entity, deal=early.deal, open_leads=early.open_leads, steps=made)
                return True
        return False

    async def _find_made(self) -> Found | None:
        """Whom an earlier call of his made: Kommo's search may not show him yet, and a crash forgets what we learnt."""
        for earlier in await self._history.earlier():
            made = earlier.progress.entity
            if made is not None and made.is_new and made.id:
                return await self._desk.clients.find_made(self.phone, made)
        return None

    async def _find_unsorted(self) -> bool:
        for earlier in await self._history.earlier():
            deal, entity = earlier.progress.deal, earlier.progress.entity
            if deal is not None and entity is not None and deal.is_unsorted:
                state = await self._desk.client.unsorted_state(deal.uid, deal.id)
                if state is UnsortedState.PENDING:
                    await self._save(entity=entity.model_copy(update={"is_new": False}), deal=deal, open_leads=[])
                return state is UnsortedState.PENDING
        return False

    async def _create_client(self) -> None:
        if self.progress.entity is not None:
            return
        stage = self._rules.route(self.call)
        if (
            self._rules.business.unsorted
            and self.call.type is CallType.INCOMING
            and stage.pipeline_id in self._rules.unsorted_pipelines
        ):
            await self._create_unsorted()
        elif self._rules.business.create_contacts:
            await self._create_contact()
        else:
            raise Skip(NO_ENTITY)

    async def _create_unsorted(self) -> None:
        params = self._params.unsorted(self.progress.link)
        data = await self._ask("process_unsorted_creation_params", {**params, "call_full": self._full()})
        if data is None:
            raise Skip(f"{CANCELLED}: no entry among the incoming leads")
        body = for_api("unsorted", {**data, "source_uid": self.call.id})
        body["metadata"] = {**body.get("metadata", {}), "uniq": self.call.id}
        if not body["metadata"].get("link"):
            body["metadata"].pop("link", None)

        async def find(writing: Writing) -> Added | None:
            # Kommo dates an entry as we did: by the call, which may have waited for days.
            begun = min(writing.since, float(writing.body.get("created_at") or writing.since))
            entries = await self._desk.client.recent_unsorted(begun - recognition.SKEW)
            entry = recognition.written_unsorted(entries, writing.body)
            if entry is None:
                return None
            contact = entry.contact_ids[0] if entry.contact_ids else 0
            return Added("", entry.lead_ids[0] if entry.lead_ids else 0, "contacts", contact, entry.uid)

        added = await self._once("unsorted", body, self._desk.mail.unsorted, find)
        deal = Deal(
            id=added.id, name=str(params["_embedded"]["leads"][0]["name"]), is_new=True, is_unsorted=True, uid=added.uid
        )
        entity = Entity(type="contacts", id=added.entity_id or 0, phones=[self.phone], is_new=True)
        await self._save(entity=entity, deal=deal, open_leads=[], writing=None)
        _log.info("unsorted_created", uid=added.uid, lead_id=added.id)

    async def _create_contact(self) -> None:
        responsible = self._responsible(None)
        params = self._params.contact(responsible)
        data = await self._ask("process_contact_creation_params", {**params, "call_full": self._full()})
        if data is None:
            raise Skip(f"{CANCELLED}: no contact")

        async def find(_: Writing) -> Added | None:
            return None  # `_find` has looked already

        body = for_api("contact", data)
        added = await self._once("contact", body, self._desk.mail.contacts, find)
        entity = Entity(
            type="contacts",
            id=added.id,
            name=str(data.get("name") or ""),
            phones=[self.phone],
            responsible_id=int(data.get("responsible_user_id") or ROBOT),
            is_new=True,
        )
        await self._save(entity=entity, open_leads=[], writing=None)
        self._desk.clients.made(self.phone, entity)
        _log.info("contact_created", contact_id=entity.id)

    async def _create_lead(self) -> None:
        wanted = self._rules.business.create_leads
        open_leads = self.progress.open_leads or []
        deal = self.progress.deal
        if self._done("lead") or wanted == "never" or (deal is not None and deal.is_unsorted):
            return
        if wanted == "no_open_lead" and open_leads:
            return
        entity = self._entity
        responsible = self._responsible(entity)
        params = self._params.lead(entity, responsible)
        data = await self._ask("process_lead_creation_params", {**params, "call_full": self._full()})
        if data is None:
            await self._finish("lead", note=f"{CANCELLED}: no lead")
            return
        body = {key: value for key, value in for_api("lead", data).items() if value != 0}
        if entity.type == "companies":
            body["_embedded"] = {**body.get("_embedded", {}), "companies": [{"id": entity.id}]}
        known = {lead.id for lead in open_leads}

        async def find(writing: Writing) -> Added | None:
            read = self._desk.client.contact if entity.type == "contacts" else self._desk.client.company
            card = await read(entity.id)
            leads = await self._desk.client.leads(card.lead_ids) if card else []
            lead = recognition.written_lead(leads, writing.body, writing.since, known=known)
            return Added("", lead.id) if lead else None

        added = await self._once("lead", body, self._desk.mail.leads, find)
        made = Deal(
            id=added.id,
            name=str(body.get("name") or ""),
            responsible_id=int(body.get("responsible_user_id") or ROBOT),
            pipeline_id=int(body.get("pipeline_id") or 0),
            status_id=int(body.get("status_id") or 0),
            is_new=True,
        )
        await self._finish("lead", deal=made, writing=None)
        self._desk.clients.made_lead(entity, made)
        _log.info("lead_created", lead_id=made.id)

    # The call

    async def _write_call(self) -> None:
        if self._done("call"):
            return
        params = self._params.call(self._responsible(self._entity), self.progress.link)
        data = await self._ask("process_call_params", {**params, "call_full": self._full()})
        if data is None:
            await self._finish("call", note=f"{CANCELLED}: the call itself is not written")
            return
        body = {**for_api("call", data), "uniq": self.call.id}
        responsible = int(body.get("responsible_user_id") or ROBOT)
        if responsible != ROBOT:
            body["call_responsible"] = responsible
        else:
            body.pop("responsible_user_id", None)
        if not body.get("link"):
            body.pop("link", None)
        card = await self._post_call(body)
        await self._finish("call", call=card, writing=None)
        _log.info("call_registered", note_id=card.id, on=f"{card.entity_type}/{card.entity_id}")

    async def _post_call(self, body: dict[str, Any]) -> Card:
        entity_type, entity_id = self._card()
        if self._matches_by_itself() and not self._is_writing("call note"):
            try:
                added = await self._once("call", body, self._desk.mail.calls, self._find_call)
            except KommoRejected as error:
                if error.status != ENTITY_NOT_FOUND:
                    raise
                _log.info("call_not_matched", on=f"{entity_type}/{entity_id}", remedy="it is written there as a note")
            else:
                return Card(
                    id=added.id, entity_type=added.entity_type or entity_type, entity_id=added.entity_id or entity_id
                )
        note = call_note(body, entity_id)
        added = await self._once("call note", note, self._desk.mail.notes(entity_type), self._find_call)
        return Card(id=added.id, entity_type=added.entity_type or entity_type, entity_id=added.entity_id or entity_id)

    def _card(self) -> tuple[str, int]:
        """The card the call and its task stand on, by Kommo's own rule: the one open lead, else the client."""
        deal = self.progress.deal
        if deal is not None and (deal.is_new or deal.is_unsorted or len(self.progress.open_leads or []) == 1):
            return "leads", deal.id
        return self._entity.type, self._entity.id

    def _matches_by_itself(self) -> bool:
        """Whether Kommo, given the phone, surely finds the card we mean. It may not know yet what we just made."""
        deal = self.progress.deal
        made_now = self._entity.is_new or (deal is not None and (deal.is_new or deal.is_unsorted))
        return self._entity.is_sole and not made_now

    async def _find_call(self, _: Writing) -> Added | None:
        """Its note, on the client's card or on one of his leads', wherever Kommo's matching put it."""
        entity, client = self._entity, self._desk.client
        read = client.contact if entity.type == "contacts" else client.company
        card = await read(entity.id)
        note = recognition.written_call(await client.notes(entity.type, entity.id), self.call.id)
        if note is not None:
            return Added("", note.id, entity.type, entity.id)
        deal = self.progress.deal
        leads = {*(card.lead_ids if card else ()), *((deal.id,) if deal else ())}
        for lead_id in sorted(leads, reverse=True):
            note = recognition.written_call(await client.notes("leads", lead_id), self.call.id)
            if note is not None:
                return Added("", note.id, "leads", lead_id)
        return None

    # What follows

    async def _update_contact(self) -> None:
        entity = self._entity
        if entity.type == "contacts" and not (self.progress.deal and self.progress.deal.is_unsorted):
            await self._update("process_contact_update_params", "contacts", entity.id, entity.responsible_id)

    async def _update_lead(self) -> None:
        deal = self.progress.deal
        if deal is not None and not deal.is_unsorted:
            await self._update("process_lead_update_params", "leads", deal.id, deal.responsible_id)

    async def _update(self, hook: Hook, entity_type: str, card_id: int, responsible_id: int) -> None:
        """Who answered may become responsible; a customization may change anything. Nothing is sent for no change."""
        if self._done(hook):
            return
        answered_by = self.call.responsible.id if self.call.responsible else ROBOT
        wanted = responsible_id
        if self._rules.business.reassign_on_answer and self.call.was_answered and answered_by != ROBOT:
            wanted = answered_by
        if hook not in self._desk.hooks.hooks and wanted == responsible_id:
            return
        params = self._params.update(card_id, wanted)
        data = await self._ask(hook, {**params, "call_full": self._full()})
        if data is None:
            await self._finish(hook, note=f"{CANCELLED}: {entity_type}/{card_id} stays as it is")
            return
        body = for_api("contact_update" if entity_type == "contacts" else "lead_update", {**data, "id": card_id})
        if body.get("responsible_user_id") in {ROBOT, responsible_id}:
            body.pop("responsible_user_id", None)
        if body.keys() - {"id"}:
            await self._write(hook, body, self._desk.mail.updates(entity_type))
            _log.info("card_updated", on=f"{entity_type}/{card_id}")
        await self._finish(hook, writing=None)

    async def _create_task(self) -> None:
        if self._done("task") or not self._rules.wants_task(self.call):
            return
        ended = self.call.ended_at or self.call.started_at
        if self._desk.now() - ended > self._rules.business.tasks.max_age_hours * 3600:
            await self._finish("task", note="no task: the call is too long ago")
            return
        if await self._history.reached_after(ended):
            await self._finish("task", note="no task: the client was reached since")
            return
        entity_type, entity_id = self._card()
        deal = self.progress.deal if entity_type == "leads" else None
        params = self._params.task(self._entity, deal, self._responsible(self._entity), self._rules.due(ended))
        data = await self._ask("process_task_creation_params", {**params, "call_full": self._full()})
        if data is None:
            await self._finish("task", note=f"{CANCELLED}: no task")
            return
        body = for_api("task", data)
        if not body.get("responsible_user_id"):
            body.pop("responsible_user_id", None)

        async def find(writing: Writing) -> Added | None:
            tasks = await self._desk.client.tasks(body["entity_type"], body["entity_id"])
            task = recognition.written_task(tasks, writing.body, writing.since, known=await self._known_tasks())
            return Added("", task.id) if task else None

        added = await self._once("task", body, self._desk.mail.tasks, find)
        task = Card(id=added.id, entity_type=str(body["entity_type"]), entity_id=int(body["entity_id"]))
        await self._finish("task", task=task, task_closed=bool(body.get("is_completed")), writing=None)
        _log.info("task_created", task_id=added.id, on=f"{entity_type}/{entity_id}")

    async def _known_tasks(self) -> set[int]:
        earlier = await self._history.earlier()
        return {one.progress.task.id for one in earlier if one.progress.task is not None}

    async def _close_tasks(self) -> None:
        """The client was reached, in whichever direction: nobody need call him back any more."""
        if self._done("close") or not self.call.was_answered or not self._rules.business.tasks.complete_on_contact:
            return
        open_tasks = {
            one.progress.task.id: one
            for one in await self._history.earlier()
            if one.progress.task is not None and not one.progress.task_closed
        }
        if open_tasks:
            words = TASK_RESULTS[self._rules.language]
            for outcome in await self._desk.client.complete_tasks(open_tasks, words):
                if not isinstance(outcome, Added | Refused):
                    raise outcome.error
            for one in open_tasks.values():
                closed = one.progress.model_copy(update={"task_closed": True})
                await self._history.save(one.id, closed.model_dump(mode="json"))
            _log.info("tasks_completed", task_ids=sorted(open_tasks))
        await self._finish("close")

    async def _afterwards(self) -> None:
        if not self._done("post_registration"):
            await self._ask("post_registration", {"call_full": self._full()})
            await self._finish("post_registration")

    # How it is done

    @property
    def _params(self) -> Params:
        return Params(self.call, self.phone, self._rules)

    @property
    def _entity(self) -> Entity:
        if self.progress.entity is None:
            raise AssertionError("the steps before have found or created the client")
        return self.progress.entity

    def _full(self) -> dict[str, Any]:
        return self._params.full(self.progress.entity, self.progress.deal, self.progress.link)

    def _responsible(self, entity: Entity | None) -> int:
        return self._rules.responsible(self.call, entity)

    async def _ask(self, hook: Hook, params: dict[str, Any]) -> dict[str, Any] | None:
        """What goes on after this customization, None where it cancelled; asked once, however often this is walked."""
        if hook in self.progress.hooks:
            return self.progress.hooks[hook]
        verdict = await self._desk.hooks.call(hook, params, call_id=self.call.id)
        if verdict.answer is not None:
            notes = [f"{hook} failed: {verdict.failure}"] if verdict.failure else []
            await self._save(hooks={**self.progress.hooks, hook: verdict.data}, notes=[*self.progress.notes, *notes])
        return verdict.data

    def _is_writing(self, what: str) -> bool:
        return self.progress.writing is not None and self.progress.writing.what == what

    async def _once(
        self,
        what: str,
        body: dict[str, Any],
        send: Callable[[dict[str, Any]], Awaitable[Outcome]],
        find: Callable[[Writing], Awaitable[Added | None]],
    ) -> Added:
        """Write, unless an earlier attempt of ours shows in Kommo."""
        writing = self.progress.writing
        if writing is not None and writing.what == what:
            found = await find(writing)
            if found is not None:
                return found
            if self._desk.now() < writing.since + SETTLE:
                raise Settling(writing.since + SETTLE)
        return await self._write(what, body, send)

    async def _write(
        self, what: str, body: dict[str, Any], send: Callable[[dict[str, Any]], Awaitable[Outcome]]
    ) -> Added:
        await self._save(writing=Writing(what=what, since=self._desk.now(), body=body))
        outcome = await send({**body, "request_id": f"{self.call.id}:{what}"})
        if isinstance(outcome, Refused) and (instead := self._without_user(body, outcome)) is not None:
            _log.warning("user_refused", what=what, words=outcome.detail, remedy="the default user takes it")
            await self._save(writing=Writing(what=what, since=self._desk.now(), body=instead))
            outcome = await send({**instead, "request_id": f"{self.call.id}:{what}"})
        if isinstance(outcome, Added):
            return outcome
        if isinstance(outcome, Refused):
            # Who mends the customization and retries wants it asked anew.
            blamed = HOOK_BEFORE.get(what) if outcome.status != ENTITY_NOT_FOUND else None
            await self._save(writing=None, hooks={k: v for k, v in self.progress.hooks.items() if k != blamed})
            raise KommoRejected(
                f"Kommo refused the {what}: {outcome.title}: {outcome.detail}: mend it and retry",
                status=outcome.status or 400,
            )
        if not outcome.error.may_have_happened:
            await self._save(writing=None)
        raise outcome.error

    def _without_user(self, body: dict[str, Any], refused: Refused) -> dict[str, Any] | None:
        """The body with the default user where Kommo refused the one it names (deleted, say); None where it did not."""
        keys = {"responsible_user_id", "created_by", "call_responsible"}
        if not any(key in f"{refused.title} {refused.detail}" for key in keys):
            return None
        default = self._rules.route(self.call).default_user_id
        instead = _with_user(body, keys, default)
        if isinstance(body.get("params"), dict):
            instead["params"] = _with_user(body["params"], keys, default)
        return instead if instead != body else None

    def _done(self, step: str) -> bool:
        return step in self.progress.steps

    async def _finish(self, step: str, *, note: str = "", **changes: Any) -> None:
        notes = [*self.progress.notes, note] if note else self.progress.notes
        await self._save(steps=[*self.progress.steps, step], notes=notes, **changes)

    async def _save(self, **changes: Any) -> None:
        """Around what has effects, and of what may not be asked twice, the row is written at once; the rest waits."""
        self.progress = self.progress.model_copy(update=changes)
        self._is_saved = not changes.keys().isdisjoint({"writing", "hooks"})
        if self._is_saved:
            await self._save_row(self.progress.model_dump(mode="json"))

    async def _save_rest(self) -> None:
        if not self._is_saved:
            self._is_saved = True
            await self._save_row(self.progress.model_dump(mode="json"))


def _with_user(body: dict[str, Any], keys: set[str], user_id: int) -> dict[str, Any]:
    if user_id == ROBOT:
        return {
            key: ROBOT if key == "created_by" else value
            for key, value in body.items()
            if key not in keys - {"created_by"}
        }
    return {key: user_id if key in keys else value for key, value in body.items()}


def call_note(body: dict[str, Any], entity_id: int) -> dict[str, Any]:
    """The same call as a note on a card of our choice."""
    note = {
        "entity_id": entity_id,
        "note_type": "call_in" if body["direction"] == "inbound" else "call_out",
        "params": {key: body[key] for key in recognition.CALL_PARAMS if key in body},
    }
    return note | {key: body[key] for key in ("created_by", "responsible_user_id", "created_at") if key in body}
