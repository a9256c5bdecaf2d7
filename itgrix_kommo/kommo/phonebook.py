"""Whose a phone is, as far as we remember, so that answers are at hand and Kommo is spared.

What it remembers came from a whole look-up of that phone, or was created by us after one that found nobody; webhooks
and renewed looks keep it true. That somebody is *not* in it means nothing: then Kommo is asked. Before anything is
written on its word an entry is confirmed: asked for by id, many at once. A client who vanished (deleted, or merged into
another), or who no longer has the phone, sends us back to the look-up.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import structlog

from itgrix_kommo.errors import KommoError, StorageError
from itgrix_kommo.kommo.client import PAGE, ClientType
from itgrix_kommo.kommo.gathering import Gathering
from itgrix_kommo.kommo.limiter import Priority
from itgrix_kommo.kommo.listings import Client, Listing, Listings, OpenLead, Ref, client_of
from itgrix_kommo.kommo.phones import phone_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence

    from itgrix_kommo.kommo.client import KommoClient
    from itgrix_kommo.kommo.models import Company, Contact, Lead
    from itgrix_kommo.kommo.phones import PhoneKey
    from itgrix_kommo.kommo.webhooks import Change

MOST_PHONES = 50_000
"""Phones that are remembered, in some 1.5 KB each."""

FRESH = 60.0
"""Seconds for which what Kommo said needs no confirmation."""

GATHER = 2.0
"""Seconds that changes are gathered before they are kept: a lost one is asked for again."""

AT_ONCE = 1000
"""Phones in one transaction: a whole account must not hold the others up."""

AGAIN = 10.0
"""Seconds before a database that failed is tried again."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SyncProgress:
    """`read` clients of this kind so far; `phones` are in the book, and `is_full` tells that not all had room."""

    noun: ClientType
    read: int
    phones: int
    is_full: bool


class PhonebookStore(Protocol):
    async def load(self, most: int) -> list[tuple[Listing, float]]:
        """The listings used last, with the time of it, the most recent first; all others are let go."""
        ...

    async def save(self, listings: Collection[tuple[Listing, float]], gone: Collection[str]) -> None: ...

    async def forget_before(self, at: float) -> int:
        """Let go of listings used last before `at` (Unix s); how many there were."""
        ...


class Phonebook:
    """Needs `load` before use, and `run` beside it. Looks into Kommo raise KommoError; all else only remembers."""

    def __init__(
        self,
        client: KommoClient,
        store: PhonebookStore,
        *,
        most: int = MOST_PHONES,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._store = store
        self._now = now
        self._listings = Listings(most)
        self._news = asyncio.Event()
        self._searches: dict[tuple[str, bool, Priority], asyncio.Task[Listing | None]] = {}
        self._renewing: Gathering[Ref, Client | None] = Gathering(self._renewed, most=PAGE)

    def __len__(self) -> int:
        """How many phones are remembered."""
        return len(self._listings)

    # Asking

    def recall(self, phone: str) -> Listing | None:
        """What is remembered, at once; None proves nothing."""
        return self._listings.use(self._key(phone).name, self._now())

    async def find(self, phone: str, *, priority: Priority = Priority.LIVE) -> Listing | None:
        """What is remembered, else what Kommo says; for showing, not for writing."""
        return self.recall(phone) or await self.search(phone, with_leads=False, priority=priority)

    async def confirm(self, phone: str, *, priority: Priority = Priority.REGISTRATION) -> Listing | None:
        """Who has the phone by Kommo's own word of at most `FRESH` seconds ago, with open leads: for writing."""
        asked_at = self._now()
        listing = self.recall(phone)
        if listing is None:
            return await self.search(phone, priority=priority)
        knows_leads = all(client.leads is not None for client in listing.clients)
        if knows_leads and asked_at < listing.told_at + FRESH:
            return listing
        key = self._key(phone)
        clients = await asyncio.gather(*(self._renewing.ask(client.ref) for client in listing.clients))
        true = tuple(client for client in clients if client is not None and key.is_among(client.phones))
        if len(true) < len(clients):
            _log.info("phonebook_entry_moved", clients=[client.ref for client in listing.clients])
            return await self.search(phone, priority=priority)
        return self._put(Listing(listing.phone, true, asked_at))

    async def search(
        self, phone: str, *, with_leads: bool = True, priority: Priority = Priority.REGISTRATION
    ) -> Listing | None:
        """Ask Kommo whose the phone is: contacts, else companies. Who asks for the same meanwhile shares the answer.

        The answer is remembered even if he who asked gave up waiting for it.
        """
        key = self._key(phone)
        if not key.digits:
            return None
        asked = (key.name, with_leads, priority)
        if asked not in self._searches:
            search = asyncio.create_task(self._search(phone, key, priority, with_leads=with_leads), name="phonebook")
            self._searches[asked] = search
            search.add_done_callback(lambda done: self._searched(asked, done))
        return await asyncio.shield(self._searches[asked])

    async def look_at(self, phone: str, ref: Ref) -> Listing | None:
        """This very client, asked for by id, if he has the phone: a search may not show yet whom we made."""
        key = self._key(phone)
        client = await self._renewing.ask(ref)
        if client is None or not key.is_among(client.phones):
            return None
        return self._put(Listing(key.name, (client,), self._now()))

    # Learning

    def learn(self, phone: str, client: Client) -> Listing | None:
        """Remember a client whom we created after a search for this phone found nobody; None where it is no phone.

        He counts as confirmed for `FRESH` seconds, in which Kommo may not show him yet; what leads he has, if any, is
        taken as given.
        """
        key = self._key(phone)
        if not key.digits:
            return None
        listing = self._listings.add(key.name, replace(client, leads=client.leads or ()), self._now())
        self._news.set()
        return listing

    def learn_lead(self, kind: ClientType, client_id: int, lead: OpenLead) -> None:
        """Remember a lead that we created for this client."""
        self._listings.add_lead((kind, client_id), lead)
        self._news.set()

    def forget(self, kind: ClientType, client_id: int) -> None:
        """This client is no more, or is not what we think: his phones are looked up anew."""
        self._listings.forget((kind, client_id))
        self._news.set()

    async def forget_before(self, at: float) -> int:
        """Let go of who was met last before `at` (Unix s), also of those for whom memory had no room."""
        forgotten = self._listings.forget_before(at)
        self._news.set()
        return max(forgotten, await self._store.forget_before(at))

    def doubt(self, phone: str) -> None:
        """What is remembered of this phone may be outdated: nothing is written before Kommo has confirmed it."""
        self._listings.doubt(self._key(phone).name)

    def forget_number(self, digits: str) -> None:
        """Let go of every phone with these digits, and of everybody who has such a number."""
        self._listings.forget_number(digits)
        self._news.set()

    def take_in(self, told: Collection[tuple[Listing, float]], gone: Collection[str]) -> None:
        """Remember what another node was told by Kommo later than we; `gone` are phones by their keys' names.

        It may have made a lead since: nothing is written on its word alone.
        """
        for listing, used_at in told:
            known = self._listings[listing.phone][0] if listing.phone in self._listings else None
            if known is None or known.told_at < listing.told_at:
                self._listings.put(listing, used_at)
                self._listings.doubt(listing.phone)
        for name in gone:
            self._listings.drop(name)
        self._news.set()

    def apply(self, changes: Iterable[Change]) -> None:
        """Refresh what is remembered by what a webhook told; of what is not remembered nothing is learnt."""
        for change in changes:
            self._listings.apply(change, self._client.region)
        self._news.set()

    async def warm(self, phones: Iterable[str]) -> None:
        """Look up recent callers, one after another, when nobody else needs Kommo; ends where Kommo can't be asked."""
        for phone in phones:
            if self._key(phone).name not in self._listings:
                try:
                    await self.search(phone, with_leads=False, priority=Priority.BACKFILL)
                except KommoError as error:
                    _log.info("phonebook_not_warmed", error=str(error))
                    return

    async def sync(self) -> AsyncIterator[SyncProgress]:
        """Read all clients of the account, page by page, without their leads. What is remembered already stays."""
        nouns: tuple[ClientType, ...] = ("contacts", "companies")
        for noun in nouns:
            read, is_full = 0, False
            async for page in self._client.all_clients(noun):
                for card in page:
                    read += 1
                    has_room = self._listings.enter(client_of(card), self._client.region, self._now())
                    is_full = is_full or not has_room
                self._news.set()
                yield SyncProgress(noun, read, len(self), is_full)

    # Keeping

    async def load(self) -> None:
        for listing, used_at in reversed(await self._store.load(self._listings.most)):
            self._listings.put(listing, used_at)
        self._listings.unsaved.clear()

    async def run(self) -> None:
        """Keep what has changed, for ever."""
        while True:
            await self._news.wait()
            await asyncio.sleep(GATHER)
            self._news.clear()
            try:
                await self.flush()
            except StorageError as error:
                _log.error("phonebook_not_written", error=str(error), phones=len(self._listings.unsaved))
                await asyncio.sleep(AGAIN)
                self._news.set()

    async def flush(self) -> None:
        unsaved = self._listings.unsaved
        while unsaved:
            names = [unsaved.pop() for _ in range(min(AT_ONCE, len(unsaved)))]
            kept = [self._listings[name] for name in names if name in self._listings]
            gone = [name for name in names if name not in self._listings]
            try:
                await self._store.save(kept, gone)
            except StorageError:
                unsaved.update(names)
                raise

    # How it is done

    def _key(self, phone: str) -> PhoneKey:
        return phone_key(phone, self._client.region)

    def _put(self, listing: Listing) -> Listing:
        self._news.set()
        return self._listings.put(listing, self._now())

    async def _search(self, phone: str, key: PhoneKey, priority: Priority, *, with_leads: bool) -> Listing | None:
        asked_at = self._now()
        found: Sequence[Contact | Company] = await self._client.find_contacts(phone, priority=priority)
        if not found:
            found = await self._client.find_companies(phone, priority=priority)
        if not found:
            self._listings.drop(key.name)
            self._news.set()
            return None
        leads: dict[int, Lead] | None = None
        if with_leads:
            wanted = [lead_id for one in found for lead_id in one.lead_ids]
            leads = {lead.id: lead for lead in await self._client.open_leads(wanted, priority=priority)}
        return self._put(Listing(key.name, tuple(client_of(one, leads) for one in found), asked_at))

    def _searched(self, asked: tuple[str, bool, Priority], search: asyncio.Task[Listing | None]) -> None:
        del self._searches[asked]
        if not search.cancelled():
            search.exception()  # he who asked may be gone

    async def _renewed(self, refs: Sequence[Ref]) -> list[Client | None]:
        contacts = {number for kind, number in refs if kind == "contacts"}
        companies = {number for kind, number in refs if kind == "companies"}
        found: list[Contact | Company] = [
            *(await self._client.contacts(contacts) if contacts else ()),
            *(await self._client.companies(companies) if companies else ()),
        ]
        living = [one for one in found if not one.is_deleted]
        open_leads = await self._client.open_leads({lead_id for one in living for lead_id in one.lead_ids})
        leads = {lead.id: lead for lead in open_leads}
        clients = {client.ref: client for client in (client_of(one, leads) for one in living)}
        return [clients.get(ref) for ref in refs]
