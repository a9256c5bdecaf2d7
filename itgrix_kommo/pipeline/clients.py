"""Who the client is in Kommo, as the phonebook has it confirmed, in the words of a registration."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from itgrix_kommo.errors import StorageError
from itgrix_kommo.kommo.listings import Client, Listing, OpenLead
from itgrix_kommo.kommo.phonebook import Phonebook
from itgrix_kommo.pipeline.gate import Gate
from itgrix_kommo.pipeline.progress import Deal, Entity
from itgrix_kommo.storage.registrations import Registrations

RECENT_CALLERS = 200
"""Clients whom the phonebook is warmed with: as many as a busy day has, and half a minute of requests at most."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """`open_leads` are the entity's, the oldest first."""

    entity: Entity
    open_leads: tuple[Deal, ...]


class Clients:
    def __init__(self, phonebook: Phonebook) -> None:
        self._phonebook = phonebook

    async def find(self, phone: str) -> Found | None:
        """The oldest contact with the phone, else the oldest company; None where Kommo, asked now, shows nobody."""
        listing = await self._phonebook.confirm(phone)
        return None if listing is None else _found(listing)

    async def find_made(self, phone: str, made: Entity) -> Found | None:
        """Whom we made for an earlier call, by his id; None where he is no more, or has the phone no longer."""
        listing = await self._phonebook.look_at(phone, (made.type, made.id))
        return None if listing is None else _found(listing)

    def doubt(self, phone: str) -> None:
        """Another node has worked for the client since."""
        self._phonebook.doubt(phone)

    def made(self, phone: str, entity: Entity) -> None:
        """Kommo's search may not show for a while whom we have just created."""
        client = Client(entity.type, entity.id, entity.name, entity.responsible_id, (phone,), leads=())
        self._phonebook.learn(phone, client)

    def made_lead(self, entity: Entity, deal: Deal) -> None:
        lead = OpenLead(deal.id, deal.name, deal.pipeline_id, deal.status_id, deal.responsible_id)
        self._phonebook.learn_lead(entity.type, entity.id, lead)


async def warm_by_recent_callers(gate: Gate, registrations: Registrations, phonebook: Phonebook) -> None:
    """Once Kommo may be asked, look up who called lately and is not remembered, when nobody else needs Kommo."""
    await gate.opened()
    try:
        phones = await registrations.recent_clients(RECENT_CALLERS)
    except StorageError as error:
        _log.warning("phonebook_not_warmed", error=str(error))
        return
    await phonebook.warm(phones)
    _log.info("phonebook_warmed", callers=len(phones), phones=len(phonebook))


def _found(listing: Listing) -> Found:
    client = listing.client
    entity = Entity(
        type=client.type,
        id=client.id,
        name=client.name,
        phones=list(client.phones),
        responsible_id=client.responsible_id,
        is_sole=listing.is_sole,
    )
    return Found(entity, tuple(_deal(lead) for lead in client.leads or ()))


def _deal(lead: OpenLead) -> Deal:
    return Deal(
        id=lead.id,
        name=lead.name,
        responsible_id=lead.responsible_id,
        pipeline_id=lead.pipeline_id,
        status_id=lead.status_id,
    )
