"""Kommo's API v4 as the connector uses it: one method per question or deed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

import structlog
from pydantic import BaseModel

from itgrix_kommo.errors import KommoError, KommoRejected, KommoUnreachable
from itgrix_kommo.kommo.batches import Body, Outcome, settle, settle_failed, settle_rejected, split
from itgrix_kommo.kommo.limiter import Priority
from itgrix_kommo.kommo.models import (
    Account,
    Company,
    Contact,
    CustomField,
    Lead,
    Note,
    Pipeline,
    User,
    has_phone,
    phone_suffix,
    read,
)
from itgrix_kommo.kommo.retry import READS, Strategy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from itgrix_kommo.kommo.answers import Answer
    from itgrix_kommo.kommo.transport import Transport

EntityType: TypeAlias = Literal["contacts", "companies", "leads", "customers"]
Query: TypeAlias = "Sequence[tuple[str, str]]"

CALL_NOTES = ("call_in", "call_out")

PAGE = 250
"""Kommo's own bound for one page."""

MOST_PAGES = 40
"""Of users and fields: ten thousand of them are more than any account has; a link that leads in a circle ends here."""

SEARCH_PAGE, SEARCH_PAGES = 50, 5
"""A search by ten digits finds one client or a few; more are other fields that hold the digits."""

NOTE_PAGES = 4
"""The newest thousand notes of a card: what was written minutes ago is among them."""

C = TypeVar("C", Contact, Company)
M = TypeVar("M", bound=BaseModel)

_log = structlog.get_logger(__name__)


class KommoClient:
    """Reads are retried for some seconds, by `retry`; writes are sent once, their outcome is told item by item.

    Everything raises KommoError, except that batch writes tell the error as the outcome of the items concerned.
    `priority` is the place in the account's queue, see `limiter.Priority`.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        retry: Strategy = READS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._transport = transport
        self._retry = retry
        self._sleep = sleep
        self._filters_work = True

    # The account

    async def account(self, *, priority: Priority = Priority.REGISTRATION) -> Account:
        query = [("with", "task_types,is_api_filter_enabled")]
        return _one(Account, await self._read("/api/v4/account", query, priority))

    async def users(self, *, priority: Priority = Priority.REGISTRATION) -> list[User]:
        """All users; raises KommoForbidden where the token is no administrator's."""
        return await self._list(User, "/api/v4/users", "users", priority)

    async def contact_fields(self, *, priority: Priority = Priority.REGISTRATION) -> list[CustomField]:
        return await self._list(CustomField, "/api/v4/contacts/custom_fields", "custom_fields", priority)

    async def pipelines(self, *, priority: Priority = Priority.REGISTRATION) -> list[Pipeline]:
        """All pipelines with their stages, in the order of the account."""
        answer = await self._read("/api/v4/leads/pipelines", [], priority)
        return sorted(_many(Pipeline, [answer], "pipelines"), key=lambda pipeline: pipeline.sort)

    # Clients and their leads

    async def find_contacts(self, phone: str, *, priority: Priority = Priority.REGISTRATION) -> list[Contact]:
        """The contacts that have this phone, the oldest first, with the ids of their leads.

        Found by the tail of the number (`phone_suffix`), kept by their PHONE field alone: Kommo's search looks into
        every field. Its index may be some seconds behind: who was just created is not found yet.
        """
        return await self._find(Contact, "contacts", phone, priority)

    async def find_companies(self, phone: str, *, priority: Priority = Priority.REGISTRATION) -> list[Company]:
        """As `find_contacts`."""
        return await self._find(Company, "companies", phone, priority)

    async def contact(self, contact_id: int, *, priority: Priority = Priority.REGISTRATION) -> Contact | None:
        """The contact with the ids of its leads, None where there is none (any more)."""
        answer = await self._read(f"/api/v4/contacts/{contact_id}", [("with", "leads")], priority)
        return None if answer.status == 204 else _one(Contact, answer)

    async def lead(self, lead_id: int, *, priority: Priority = Priority.REGISTRATION) -> Lead | None:
        answer = await self._read(f"/api/v4/leads/{lead_id}", [("with", "contacts")], priority)
        return None if answer.status == 204 else _one(Lead, answer)

    async def leads(self, lead_ids: Collection[int], *, priority: Priority = Priority.REGISTRATION) -> list[Lead]:
        """Those of the leads that exist, the oldest first.

        One request per 250 where the account's API filtering works. Elsewhere Kommo ignores the filter and sends
        anything; that shows in the answer, and from then on each lead is asked for by itself.
        """
        wanted = sorted(set(lead_ids))
        found: dict[int, Lead] = {}
        while wanted and self._filters_work:
            part, rest = wanted[:PAGE], wanted[PAGE:]
            query = [*(("filter[id][]", str(lead_id)) for lead_id in part), ("with", "contacts"), ("limit", str(PAGE))]
            leads = _many(Lead, [await self._read("/api/v4/leads", query, priority)], "leads")
            if not {lead.id for lead in leads} <= set(part):
                self._filters_work = False
                break
            found.update((lead.id, lead) for lead in leads)
            wanted = rest
        for lead_id in wanted:
            lead = await self.lead(lead_id, priority=priority)
            if lead is not None:
                found[lead.id] = lead
        return [found[lead_id] for lead_id in sorted(found)]

    async def create_contacts(
        self, bodies: Sequence[Body], *, priority: Priority = Priority.REGISTRATION
    ) -> list[Outcome]:
        """One outcome per body, in order. Kommo looks for no duplicates here."""
        return await self._write("POST", "/api/v4/contacts", "contacts", bodies, priority)

    # Calls

    async def add_calls(self, bodies: Sequence[Body], *, priority: Priority = Priority.REGISTRATION) -> list[Outcome]:
        """One outcome per body, in order: Added with the card that Kommo chose, Refused 263 where nobody has the phone.

        Kommo takes the same `uniq` twice and makes two calls of it.
        """
        return await self._write("POST", "/api/v4/calls", "calls", bodies, priority)

    async def add_call_notes(
        self, entity_type: EntityType, bodies: Sequence[Body], *, priority: Priority = Priority.REGISTRATION
    ) -> list[Outcome]:
        """Calls written on chosen cards: each body holds `entity_id`, `note_type` and `params`."""
        return await self._write("POST", f"/api/v4/{entity_type}/notes", "notes", bodies, priority)

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
        query = [
            *(("filter[note_type][]", note_type) for note_type in note_types),
            ("order[id]", "desc"),
            ("limit", str(PAGE)),
        ]
        pages = await self._pages(f"/api/v4/{entity_type}/{entity_id}/notes", query, NOTE_PAGES, priority)
        # The filter is ignored where the account's API filtering is off.
        notes = [note for note in _many(Note, pages, "notes") if note.note_type in note_types]
        return sorted(notes, key=lambda note: note.id, reverse=True)

    # How it is done

    async def _find(self, model: type[C], noun: str, phone: str, priority: Priority) -> list[C]:
        suffix = phone_suffix(phone)
        if not suffix:
            return []
        query = [("query", suffix), ("with", "leads"), ("limit", str(SEARCH_PAGE))]
        pages = await self._pages(f"/api/v4/{noun}", query, SEARCH_PAGES, priority)
        found = [client for client in _many(model, pages, noun) if not client.is_deleted]
        return sorted((client for client in found if has_phone(client.phones(), suffix)), key=lambda client: client.id)

    async def _list(self, model: type[M], path: str, noun: str, priority: Priority) -> list[M]:
        return _many(model, await self._pages(path, [("limit", str(PAGE))], MOST_PAGES, priority), noun)

    async def _pages(self, path: str, query: Query, most: int, priority: Priority) -> list[Answer]:
        """The first `most` pages of a list."""
        pages: list[Answer] = []
        following: Query | None = query
        while following is not None and len(pages) < most:
            pages.append(await self._read(path, following, priority))
            following = pages[-1].next_query()
        if following is not None:
            _log.warning("kommo_list_cut", path=path, pages=most)
        return pages

    async def _read(self, path: str, query: Query, priority: Priority) -> Answer:
        failed = 0
        while True:
            try:
                return await self._transport.request("GET", path, params=query, priority=priority)
            except KommoError as error:
                failed += 1
                pause = self._retry(error, failed)
                if pause is None:
                    raise
                _log.debug("kommo_read_again", path=path, failed=failed, pause_s=pause, error=str(error))
            await self._sleep(pause)

    async def _write(
        self, method: str, path: str, noun: str, bodies: Sequence[Body], priority: Priority
    ) -> list[Outcome]:
        request = f"{method} {path}"
        outcomes: list[Outcome] = []
        stopped: KommoError | None = None
        for batch in split(bodies):
            if stopped is not None:
                outcomes += settle_failed(batch, stopped)
                continue
            try:
                answer = await self._transport.request(method, path, body=batch.body, priority=priority)
            except KommoRejected as error:  # concerns this batch alone
                outcomes += settle_rejected(request, noun, batch, error)
            except KommoError as error:  # concerns whatever would follow, too
                outcomes += settle_failed(batch, error)
                stopped = KommoUnreachable(f"{request} was not sent: the items before these failed with: {error}")
            else:
                outcomes += settle(request, noun, batch, answer.body)
        return outcomes


def _one(model: type[M], answer: Answer) -> M:
    try:
        return read(model, answer.body)
    except ValueError as error:
        raise answer.nonsense(str(error)) from None


def _many(model: type[M], pages: Sequence[Answer], noun: str) -> list[M]:
    try:
        return [read(model, item) for page in pages for item in page.embedded(noun)]
    except ValueError as error:
        raise pages[-1].nonsense(f"{noun}: {error}") from None
