"""What the phonebook remembers: phone → clients, and back from clients and leads to the phones. No IO, no clock."""

from __future__ import annotations

import re
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from itgrix_kommo.kommo.client import ClientType
from itgrix_kommo.kommo.models import LOST, WON, Contact
from itgrix_kommo.kommo.phones import phone_key
from itgrix_kommo.kommo.webhooks import Change, ClientGone, ClientTold, LeadGone, LeadTold

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from itgrix_kommo.kommo.models import Company, Lead

Ref: TypeAlias = tuple[str, int]
"""(``contacts``, ``companies`` or ``leads``, id)."""

USE_NOTED_EVERY = 3600.0
"""Seconds between notes that a phone was used: only the order of forgetting hangs on it."""


@dataclass(frozen=True, slots=True)
class OpenLead:
    id: int
    name: str
    pipeline_id: int
    status_id: int
    responsible_id: int


@dataclass(frozen=True, slots=True)
class Client:
    """A contact or company. `leads` are its open ones, the oldest first; None where they were not asked for."""

    type: ClientType
    id: int
    name: str
    responsible_id: int
    phones: tuple[str, ...]
    leads: tuple[OpenLead, ...] | None = None

    @property
    def ref(self) -> Ref:
        return self.type, self.id


@dataclass(frozen=True, slots=True)
class Listing:
    """Who has this phone: contacts, or companies where no contact has it; the oldest first. Never empty.

    `phone` is the name of its `PhoneKey`; `told_at` (Unix s) is when Kommo said so last.
    """

    phone: str
    clients: tuple[Client, ...]
    told_at: float

    @property
    def client(self) -> Client:
        """The one to write to."""
        return self.clients[0]

    @property
    def is_sole(self) -> bool:
        return len(self.clients) == 1


class Listings:
    """At most `most` of them: those used longest ago make room. `unsaved` names those that changed or went."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.unsaved: set[str] = set()
        self._listings: OrderedDict[str, Listing] = OrderedDict()
        self._used_at: dict[str, float] = {}
        self._phones_of: defaultdict[Ref, set[str]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._listings)

    def __contains__(self, name: str) -> bool:
        return name in self._listings

    def __getitem__(self, name: str) -> tuple[Listing, float]:
        """The listing and when it was used, in Unix seconds."""
        return self._listings[name], self._used_at[name]

    def use(self, name: str, now: float) -> Listing | None:
        listing = self._listings.get(name)
        if listing is not None:
            self._listings.move_to_end(name)
            if now >= self._used_at[name] + USE_NOTED_EVERY:
                self._used_at[name] = now
                self.unsaved.add(name)
        return listing

    def put(self, listing: Listing, used_at: float) -> Listing:
        """Remember it as the one used last."""
        self._link(listing)
        self._listings.move_to_end(listing.phone)
        self._used_at[listing.phone] = used_at
        while len(self) > self.most:
            self.drop(next(iter(self._listings)))
        return listing

    def drop(self, name: str) -> None:
        if name in self._listings:
            self._unlink(name)
            del self._listings[name], self._used_at[name]
            self.unsaved.add(name)

    def doubt(self, name: str) -> None:
        """Take what is known for said long ago."""
        if name in self._listings:
            self._listings[name] = replace(self._listings[name], told_at=0.0)

    def add(self, name: str, client: Client, now: float) -> Listing:
        """Put a client among those of this phone, in the place of what was known of him."""
        known = self._listings.get(name)
        return self.put(Listing(name, _with(known.clients if known else (), client), now), now)

    def enter(self, client: Client, region: str | None, now: float) -> bool:
        """Take a client in under all his phones; False where there is no room for one. Known leads stay."""
        has_room = True
        for name in names_of(client.phones, region):
            known = self._listings.get(name)
            if known is not None:
                leads = next((one.leads for one in known.clients if one.ref == client.ref), None)
                self._replace(name, _with(known.clients, replace(client, leads=leads)))
            elif len(self) < self.most:
                self.put(Listing(name, (client,), now), now)
            else:
                has_room = False
        return has_room

    def forget(self, ref: Ref) -> None:
        """All phones of that client are looked up anew."""
        for name in list(self._phones_of.get(ref, ())):
            self.drop(name)

    def forget_before(self, at: float) -> int:
        """Let go of who was met last before `at` (Unix s); how many phones there were."""
        old = [name for name, used_at in self._used_at.items() if used_at < at]
        for name in old:
            self.drop(name)
        return len(old)

    def forget_number(self, digits: str) -> None:
        """Let go of every phone with these digits, and of everybody who has such a number."""
        for name, listing in list(self._listings.items()):
            phones = (re.sub(r"\D+", "", phone) for client in listing.clients for phone in client.phones)
            if any(digits in phone for phone in (name, *phones)):
                self.drop(name)

    def apply(self, change: Change, region: str | None) -> None:
        """Refresh what is remembered; of what is not nothing is learnt."""
        match change:
            case ClientTold():
                self._tell(change, region)
            case ClientGone(kind, client_id):
                self.forget((kind, client_id))
            case LeadTold() if change.status_id not in {WON, LOST}:
                lead = OpenLead(change.id, change.name, change.pipeline_id, change.status_id, change.responsible_id)
                self._change_lead(change.id, [lead])
            case LeadTold(lead_id) | LeadGone(lead_id):
                self._change_lead(lead_id, [])

    def add_lead(self, ref: Ref, lead: OpenLead) -> None:
        """This client has this open lead, too."""
        for name, client in list(self._found(ref)):
            if client.ref == ref:
                leads = [one for one in client.leads or () if one.id != lead.id]
                self._replace(name, _with(self._listings[name].clients, _having(client, [*leads, lead])))

    def _tell(self, told: ClientTold, region: str | None) -> None:
        ref = (told.type, told.id)
        has = names_of(told.phones, region)
        known = list(self._found(ref))
        leads = next((client.leads for _, client in known), None)
        client = Client(told.type, told.id, told.name, told.responsible_id, told.phones, leads)
        for name, _ in known:
            if name not in has:  # whose it is now Kommo must say
                self.drop(name)
        for name in has:
            if name in self._listings:
                self._replace(name, _with(self._listings[name].clients, client))

    def _change_lead(self, lead_id: int, now: list[OpenLead]) -> None:
        for name, client in list(self._found(("leads", lead_id))):
            leads = [one for one in client.leads or () if one.id != lead_id]
            self._replace(name, _with(self._listings[name].clients, _having(client, [*leads, *now])))

    def _found(self, ref: Ref) -> Iterator[tuple[str, Client]]:
        """The client, or those who have the lead, under each phone."""
        for name in self._phones_of.get(ref, ()):
            for client in self._listings[name].clients:
                if ref in _refs(client):
                    yield name, client

    def _replace(self, name: str, clients: tuple[Client, ...]) -> None:
        """The listing's clients are others now; its place in the order of forgetting stays."""
        self._link(replace(self._listings[name], clients=clients))

    def _link(self, listing: Listing) -> None:
        self._unlink(listing.phone)
        self._listings[listing.phone] = listing
        for client in listing.clients:
            for ref in _refs(client):
                self._phones_of[ref].add(listing.phone)
        self.unsaved.add(listing.phone)

    def _unlink(self, name: str) -> None:
        former = self._listings.get(name)
        for client in former.clients if former else ():
            for ref in _refs(client):
                self._phones_of[ref].discard(name)
                if not self._phones_of[ref]:
                    del self._phones_of[ref]


def client_of(card: Contact | Company, open_leads: dict[int, Lead] | None = None) -> Client:
    """What is remembered of a card; `open_leads` by id, None where they were not asked for."""
    kind: ClientType = "contacts" if isinstance(card, Contact) else "companies"
    known = None
    if open_leads is not None:
        leads = (open_leads[lead_id] for lead_id in sorted(card.lead_ids) if lead_id in open_leads)
        known = tuple(
            OpenLead(lead.id, lead.name, lead.pipeline_id, lead.status_id, lead.responsible_user_id) for lead in leads
        )
    return Client(kind, card.id, card.name, card.responsible_user_id, tuple(card.phones()), known)


def names_of(phones: Iterable[str], region: str | None) -> set[str]:
    """The names of all numbers that somebody typed, several into one value perhaps."""
    parts = (part for phone in phones for part in re.split(r"[,;/\n]", phone))
    return {key.name for key in (phone_key(part, region) for part in parts) if key.digits}


def _refs(client: Client) -> list[Ref]:
    return [client.ref, *(("leads", lead.id) for lead in client.leads or ())]


def _with(clients: Sequence[Client], client: Client) -> tuple[Client, ...]:
    """`client` in the place of his former self; contacts before companies, as in a look-up, the oldest first."""
    ordered = sorted(
        [*(one for one in clients if one.ref != client.ref), client],
        key=lambda one: (one.type != "contacts", one.id),
    )
    return tuple(one for one in ordered if one.type == ordered[0].type)


def _having(client: Client, leads: Iterable[OpenLead]) -> Client:
    return replace(client, leads=tuple(sorted(leads, key=lambda lead: lead.id)))
