"""Kommo's API v4 as the connector uses it: one method per question or deed."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

import structlog
from pydantic import BaseModel

from itgrix_kommo.errors import KommoNotFound
from itgrix_kommo.kommo.exchange import Exchange, many, one
from itgrix_kommo.kommo.limiter import Priority
from itgrix_kommo.kommo.models import (
    UNSORTED_STAGE,
    Account,
    Company,
    Contact,
    CustomField,
    Lead,
    Note,
    Pipeline,
    Task,
    Unsorted,
    User,
    Webhook,
)
from itgrix_kommo.kommo.phones import phone_key
from itgrix_kommo.kommo.retry import READS, Strategy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence

    from itgrix_kommo.kommo.batches import Body, IsAwaited, Outcome
    from itgrix_kommo.kommo.transport import Transport

EntityType: TypeAlias = Literal["contacts", "companies", "leads", "customers"]
ClientType: TypeAlias = Literal["contacts", "companies"]

CALL_NOTES = ("call_in", "call_out")

PAGE = 250
"""Kommo's own bound for one page."""

MOST_PAGES = 40
"""Of users and fields: ten thousand of them are more than any account has; a link that leads in a circle ends here."""

SEARCH_PAGE, SEARCH_PAGES = 50, 5
"""A search by ten digits finds one client or a few; more are other fields that hold the digits."""

RECENT_PAGES = 4
"""The newest thousand notes of a card, tasks or incoming leads: what was written minutes ago is among them."""

ALL_PAGES = 8000
"""Two million clients: a link that leads in a circle ends here."""

C = TypeVar("C", Contact, Company)
E = TypeVar("E", Contact, Company, Lead)
M = TypeVar("M", bound=BaseModel)

_log = structlog.get_logger(__name__)


class UnsortedState(Enum):
    PENDING = "pending"
    ACCEPTED = "accepted"
    DECLINED = "declined"


class KommoClient:
    """Reads are retried for some seconds, by `retry`; of writes the outcome is told item by item, see `Exchange.write`.

    Everything raises KommoError, except that batch writes tell the error as the outcome of the items concerned.
    `priority` is the place in the account's queue, see `limiter.Priority`; `is_awaited` is asked before a list goes.
    `region` ("NO") is the country whose numbers come without a country code; the account's own where none is given.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        retry: Strategy = READS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        region: str | None = None,
    ) -> None:
        self._exchange = Exchange(transport, retry=retry, sleep=sleep)
        self._filters_work = True
        self._unsorted_stages: frozenset[int] | None = None
        self.region = region

    # The account

    async def account(self, *, priority: Priority = Priority.REGISTRATION) -> Account:
        """The account; what it says of its country and of filters is remembered here."""
        query = [("with", "task_types,is_api_filter_enabled")]
        account = one(Account, await self._exchange.read("/api/v4/account", query, priority))
        self._filters_work = account.is_api_filter_enabled
        self.region = self.region or account.country or None
        return account

    async def users(self, *, priority: Priority = Priority.REGISTRATION) -> list[User]:
        """All users; raises KommoForbidden where the token is no administrator's."""
        return await self._list(User, "/api/v4/users", "users", priority)

    async def contact_fields(self, *, priority: Priority = Priority.REGISTRATION) -> list[CustomField]:
        return await self._list(CustomField, "/api/v4/contacts/custom_fields", "custom_fields", priority)

    async def pipelines(self, *, priority: Priority = Priority.REGISTRATION) -> list[Pipeline]:
        """All pipelines with their stages, in the order of the account."""
        answer = await self._exchange.read("/api/v4/leads/pipelines", [], priority)
        pipelines = many(Pipeline, answer, "pipelines")
        stages = (stage for pipeline in pipelines for stage in pipeline.statuses if stage.type == UNSORTED_STAGE)
        self._unsorted_stages = frozenset(stage.id for stage in stages)
        return sorted(pipelines, key=lambda pipeline: pipeline.sort)

    # Clients

    async def find_contacts(self, phone: str, *, priority: Priority = Priority.REGISTRATION) -> list[Contact]:
        """The contacts that have this phone, the oldest first, with the ids of their leads.

        Found by the tail of the number (`phone_key`), kept by their PHONE field alone: Kommo's search looks into
        every field. Its index may be some seconds behind: who was just created is not found yet.
        """
        return await self._find(Contact, "contacts", phone, priority)

    async def find_companies(self, phone: str, *, priority: Priority = Priority.REGISTRATION) -> list[Company]:
        """As `find_contacts`."""
        return await self._find(Company, "companies", phone, priority)

    async def contact(self, contact_id: int, *, priority: Priority = Priority.REGISTRATION) -> Contact | None:
        """The contact with the ids of its leads, None where there is none (any more)."""
        return await self._one(Contact, f"/api/v4/contacts/{contact_id}", "leads", priority)

    async def company(self, company_id: int, *, priority: Priority = Priority.REGISTRATION) -> Company | None:
        """As `contact`."""
        return await self._one(Company, f"/api/v4/companies/{company_id}", "leads", priority)

    async def contacts(self, ids: Collection[int], *, priority: Priority = Priority.REGISTRATION) -> list[Contact]:
        """Those of the contacts that exist, as `contact` has them, the oldest first; asked for as `leads`."""
        return await self._by_ids(Contact, "contacts", ids, "leads", priority)

    async def companies(self, ids: Collection[int], *, priority: Priority = Priority.REGISTRATION) -> list[Company]:
        """As `contacts`."""
        return await self._by_ids(Company, "companies", ids, "leads", priority)

    async def all_clients(
        self, noun: ClientType, *, priority: Priority = Priority.BACKFILL
    ) -> AsyncIterator[list[Contact] | list[Company]]:
        """Every contact or company of the account, the oldest first, page by page."""
        query = [("with", "leads"), ("order[id]", "asc"), ("limit", str(PAGE))]
        async for answer in self._exchange.pages(f"/api/v4/{noun}", query, priority, most=ALL_PAGES):
            yield many(Contact, answer, noun) if noun == "contacts" else many(Company, answer, noun)

    async def create_contacts(
        self,
        bodies: Sequence[Body],
        *,
        priority: Priority = Priority.REGISTRATION,
        is_awaited: IsAwaited | None = None,
    ) -> list[Outcome]:
        """One outcome per body, in order. Kommo looks for no duplicates here."""
        return await self._exchange.write(
            "POST", "/api/v4/contacts", "contacts", bodies, priority, is_awaited=is_awaited
        )

    async def update_contacts(
        self,
        bodies: Sequence[Body],
        *,
        priority: Priority = Priority.REGISTRATION,
        is_awaited: IsAwaited | None = None,
    ) -> list[Outcome]:
        """Each body holds the `id` and what shall change: a field that is named is replaced with all its values."""
        return await self._update("contacts", bodies, priority, is_awaited)

    async def update_companies(
        self,
        bodies: Sequence[Body],
        *,
        priority: Priority = Priority.REGISTRATION,
        is_awaited: IsAwaited | None = None,
    ) -> list[Outcome]:
        """As `update_contacts`."""
        return await self._update("companies", bodies, priority, is_awaited)

    # Leads

    async def lead(self, lead_id: int, *, priority: Priority = Priority.REGISTRATION) -> Lead | None:
        return await self._one(Lead, f"/api/v4/leads/{lead_id}", "contacts", priority)

    async def leads(self, lead_ids: Collection[int], *, priority: Priority = Priority.REGISTRATION) -> list[Lead]:
        """Those of the leads that exist, the oldest first.

        One request per 250 where the account's API filtering works. Elsewhere Kommo ignores the filter and sends
        anything; that shows in the answer, and from then on each lead is asked for by itself.
        """
        return await self._by_ids(Lead, "leads", lead_ids, "contacts", priority)

    async def open_leads(self, lead_ids: Collection[int], *, priority: Priority = Priority.REGISTRATION) -> list[Lead]:
        """Those of the leads that are neither closed, nor deleted, nor waiting among the incoming ones."""
        leads = await self.leads(lead_ids, priority=priority)
        unsorted = await self._stages_of_unsorted(priority) if leads else frozenset()
        return [lead for lead in leads if lead.is_open and lead.status_id not in unsorted]

    async def create_leads(
        self,
        bodies: Sequence[Body],
        *,
        priority: Priority = Priority.REGISTRATION,
        is_awaited: IsAwaited | None = None,
    ) -> list[Outcome]:
        """One outcome per body, in order; contacts under ``_embedded`` are tied to the lead at once."""
        return await self._exchange.write("POST", "/api/v4/leads", "leads", bodies, priority, is_awaited=is_awaited)

    async def update_leads(
        self,
        bodies: Sequence[Body],
        *,
        priority: Priority = Priority.REGISTRATION,
        is_awaited: IsAwaited | None = None,
    ) -> list[Outcome]:
        """Each body holds the `id` and what shall change."""
        return await self._update("leads", bodies, priority, is_awaited)

    async def link_leads(
        self, pairs: Iterable[tuple[int, int]], *, priority: Priority = Priority.REGISTRATION
    ) -> list[Outcome]:
        """Tie leads to contacts, by (lead id, contact id); what is tied already stays so."""
        bodies = [{"entity_id": lead, "to_entity_id": contact, "to_entity_type": "contacts"} for lead, contact in pairs]
        return await self._exchange.write(
            "POST", "/api/v4/leads/link", "links", bodies, priority, is_repeatable=True, is_named=False
        )

    # Calls

    async def add_calls(
        self,
        bodies: Sequence[Body],
        *,
        priority: Priority = Priority.REGISTRATION,
        is_awaited: IsAwaited | None = None,
    ) -> list[Outcome]:
        """One outcome per body, in order: Added with the card that Kommo chose, Refused 263 where nobody has the phone.

        Kommo takes the same `uniq` twice and makes two calls of it.
        """
        return await self._exchange.write("POST", "/api/v4/calls", "calls", bodies, priority, is_awaited=is_awaited)

    async def add_call_notes(
        self,
        entity_type: EntityType,
        bodies: Sequence[Body],
        *,
        priority: Priority = Priority.REGISTRATION,
        is_awaited: IsAwaited | None = None,
    ) -> list[Outcome]:
        """Calls written on chosen cards: each body holds `entity_id`, `note_type` and `params`."""
        return await self._exchange.write(
            "POST", f"/api/v4/{entity_type}/notes", "notes", bodies, priority, is_awaited=is_awaited
        )

    async def update_call_notes(
        self, entity_type: EntityType, bodies: Sequence[Body], *, priority: Priority = Priority.REGISTRATION
    ) -> list[Outcome]:
        """Calls get what they lacked, such as their recording: each body is a `recognition.call_note_with`."""
        return await self._update(f"{entity_type}/notes", bodies, priority)

    async def notes(
        self,
        entity_type: EntityType,
        entity_id: int,
        note_types: Collection[str] = CALL_NOTES,
        *,
        priority: Priority = Priority.REGISTRATION,
    ) -> list[Note]:
        """The newest thousand notes of these types on one card, the newest first: what we may have written is there.

        A call is recognised by `Note.uniq`.
        """
        query = [*(("filter[note_type][]", note_type) for note_type in note_types), ("order[id]", "desc")]
        path = f"/api/v4/{entity_type}/{entity_id}/notes"
        found = await self._list(Note, path, "notes", priority, query, most=RECENT_PAGES)
        # The filter is ignored where the account's API filtering is off.
        notes = [note for note in found if note.note_type in note_types]
        return sorted(notes, key=lambda note: note.id, reverse=True)

    # Tasks

    async def create_tasks(
        self,
        bodies: Sequence[Body],
        *,
        priority: Priority = Priority.REGISTRATION,
        is_awaited: IsAwaited | None = None,
    ) -> list[Outcome]:
        return await self._exchange.write("POST", "/api/v4/tasks", "tasks", bodies, priority, is_awaited=is_awaited)

    async def complete_tasks(
        self, task_ids: Iterable[int], result: str, *, priority: Priority = Priority.REGISTRATION
    ) -> list[Outcome]:
        """Close them with these words; closing twice does no harm."""
        bodies = [{"id": task_id, "is_completed": True, "result": {"text": result}} for task_id in task_ids]
        return await self._update("tasks", bodies, priority)

    async def task(self, task_id: int, *, priority: Priority = Priority.REGISTRATION) -> Task | None:
        return await self._one(Task, f"/api/v4/tasks/{task_id}", "", priority)

    async def tasks(
        self,
        entity_type: EntityType,
        entity_id: int,
        *,
        is_completed: bool | None = None,
        priority: Priority = Priority.REGISTRATION,
    ) -> list[Task]:
        """The tasks of one card, the newest first; where filters are ignored, those among the account's newest."""
        query = [("filter[entity_type]", entity_type), ("filter[entity_id][]", str(entity_id)), ("order[id]", "desc")]
        if is_completed is not None:
            query.append(("filter[is_completed]", str(int(is_completed))))
        found = await self._list(Task, "/api/v4/tasks", "tasks", priority, query, most=RECENT_PAGES)
        tasks = [
            task
            for task in found
            if (task.entity_type, task.entity_id) == (entity_type, entity_id)
            and is_completed in {None, task.is_completed}
        ]
        return sorted(tasks, key=lambda task: task.id, reverse=True)

    # Incoming leads

    async def create_unsorted(
        self,
        bodies: Sequence[Body],
        *,
        priority: Priority = Priority.REGISTRATION,
        is_awaited: IsAwaited | None = None,
    ) -> list[Outcome]:
        """Calls among the incoming leads, each with the lead and contact that it hides: Added has the `uid`."""
        return await self._exchange.write(
            "POST", "/api/v4/leads/unsorted/sip", "unsorted", bodies, priority, is_awaited=is_awaited
        )

    async def recent_unsorted(self, since: float, *, priority: Priority = Priority.REGISTRATION) -> list[Unsorted]:
        """The calls that wait among the incoming leads, the youngest first, back to those of `since` (Unix s).

        A thousand at most. What was accepted or declined is not among them.
        """
        query = [("filter[category][]", "sip"), ("order[created_at]", "desc"), ("limit", str(PAGE))]
        found: list[Unsorted] = []
        async for answer in self._exchange.pages("/api/v4/leads/unsorted", query, priority, most=RECENT_PAGES):
            entries = many(Unsorted, answer, "unsorted")
            found += [entry for entry in entries if entry.created_at >= since]
            if any(entry.created_at < since for entry in entries):
                break
        return found

    async def unsorted_state(
        self, uid: str, lead_id: int, *, priority: Priority = Priority.REGISTRATION
    ) -> UnsortedState:
        """What people made of an incoming lead: told by the entry while it waits, afterwards by its lead."""
        try:
            answer = await self._exchange.read(f"/api/v4/leads/unsorted/{uid}", [], priority)
        except KommoNotFound:
            pass
        else:
            if answer.status != 204:
                return UnsortedState.PENDING
        lead = await self.lead(lead_id, priority=priority)
        return UnsortedState.DECLINED if lead is None or lead.is_deleted else UnsortedState.ACCEPTED

    # Webhooks

    async def webhooks(self, *, priority: Priority = Priority.BACKFILL) -> list[Webhook]:
        """All subscriptions of the account; raises KommoForbidden where the token is no administrator's."""
        return await self._list(Webhook, "/api/v4/webhooks", "webhooks", priority)

    async def subscribe(
        self, destination: str, events: Collection[str], *, priority: Priority = Priority.BACKFILL
    ) -> Webhook:
        """Have Kommo tell `destination` (an https address) of these `events`, such as ``update_contact``."""
        body = {"destination": destination, "settings": sorted(events), "sort": 10}
        return one(Webhook, await self._exchange.send("POST", "/api/v4/webhooks", body, priority))

    async def unsubscribe(self, destination: str, *, priority: Priority = Priority.BACKFILL) -> None:
        """Fine as well where there is no such subscription."""
        try:
            await self._exchange.send("DELETE", "/api/v4/webhooks", {"destination": destination}, priority)
        except KommoNotFound:
            _log.debug("kommo_webhook_unknown")

    # How it is done

    async def _find(self, model: type[C], noun: str, phone: str, priority: Priority) -> list[C]:
        key = phone_key(phone, self.region)
        if not key.digits:
            return []
        query = [("query", key.digits), ("with", "leads"), ("limit", str(SEARCH_PAGE))]
        found = await self._exchange.items(model, f"/api/v4/{noun}", noun, query, priority, most=SEARCH_PAGES)
        clients = [client for client in found if not client.is_deleted and key.is_among(client.phones())]
        return sorted(clients, key=lambda client: client.id)

    async def _one(self, model: type[M], path: str, with_: str, priority: Priority) -> M | None:
        answer = await self._exchange.read(path, [("with", with_)] if with_ else [], priority)
        return None if answer.status == 204 else one(model, answer)

    async def _by_ids(self, model: type[E], noun: str, ids: Collection[int], with_: str, priority: Priority) -> list[E]:
        wanted = sorted(set(ids))
        found: dict[int, E] = {}
        while wanted and self._filters_work:
            part: list[int] = wanted[:PAGE]
            query = [*(("filter[id][]", str(one_id)) for one_id in part), ("with", with_), ("limit", str(PAGE))]
            items = many(model, await self._exchange.read(f"/api/v4/{noun}", query, priority), noun)
            if not {item.id for item in items} <= set(part):
                self._filters_work = False
                break
            found.update((item.id, item) for item in items)
            wanted = wanted[PAGE:]
        for one_id in wanted:
            item = await self._one(model, f"/api/v4/{noun}/{one_id}", with_, priority)
            if item is not None:
                found[item.id] = item
        return [found[one_id] for one_id in sorted(found)]

    async def _stages_of_unsorted(self, priority: Priority) -> frozenset[int]:
        if self._unsorted_stages is None:
            await self.pipelines(priority=priority)
        return self._unsorted_stages or frozenset()

    async def _list(
        self,
        model: type[M],
        path: str,
        noun: str,
        priority: Priority,
        query: Sequence[tuple[str, str]] = (),
        *,
        most: int = MOST_PAGES,
    ) -> list[M]:
        return await self._exchange.items(model, path, noun, [*query, ("limit", str(PAGE))], priority, most=most)

    async def _update(
        self, noun: str, bodies: Sequence[Body], priority: Priority, is_awaited: IsAwaited | None = None
    ) -> list[Outcome]:
        name = noun.rpartition("/")[2]
        return await self._exchange.write(
            "PATCH", f"/api/v4/{noun}", name, bodies, priority, is_repeatable=True, is_awaited=is_awaited
        )
