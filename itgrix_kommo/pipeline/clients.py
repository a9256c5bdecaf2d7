"""Who the client is in Kommo: the oldest contact with the phone, else the oldest company, and their open leads."""

from __future__ import annotations

from dataclasses import dataclass

from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.limiter import Priority
from itgrix_kommo.kommo.models import Company, Contact
from itgrix_kommo.pipeline.progress import Deal, Entity


@dataclass(frozen=True, slots=True)
class Found:
    """`open_leads` are the entity's, the oldest first."""

    entity: Entity
    open_leads: tuple[Deal, ...]


class Clients:
    def __init__(self, client: KommoClient) -> None:
        self._client = client

    async def find(self, phone: str, *, priority: Priority = Priority.REGISTRATION) -> Found | None:
        """Ask Kommo, now. None where nobody has the phone, as far as its search shows."""
        contacts = await self._client.find_contacts(phone, priority=priority)
        companies = await self._client.find_companies(phone, priority=priority) if not contacts else []
        candidates: list[Contact | Company] = [*contacts, *companies]
        if not candidates:
            return None
        chosen = candidates[0]
        leads = await self._client.open_leads(chosen.lead_ids, priority=priority) if chosen.lead_ids else []
        return Found(
            Entity.of(chosen, is_sole=len(candidates) == 1),
            tuple(Deal.of(lead) for lead in sorted(leads, key=lambda lead: lead.id)),
        )
