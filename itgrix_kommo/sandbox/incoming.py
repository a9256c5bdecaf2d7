"""How an incoming lead comes to be: cards that nobody sees yet, and the entry that a user accepts or declines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .records import Card, Kind, Link, Pipeline, Unsorted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .account import Account
    from .card_bodies import CardBody, LeadFields
    from .unsorted_bodies import SipMetadata


def pipeline_of(account: Account, pipeline_id: int) -> Pipeline | None:
    """The pipeline for incoming leads, by default the main one; None where they are turned off."""
    line = account.pipelines[pipeline_id] if pipeline_id else account.main_pipeline
    return line if account.switches.is_unsorted_on and line.is_unsorted_on else None


def identity(source_uid: str, source_name: str, metadata: dict[str, Any]) -> str:
    """What makes two incoming leads identical. Kommo does not say; the same call from the same source is no other."""
    named = {key: metadata.get(key) for key in ("uniq", "phone", "called_at", "form_id", "form_sent_at")}
    return json.dumps([source_uid, source_name, named], sort_keys=True)


@dataclass(frozen=True, slots=True)
class Incoming:
    """Where an incoming lead comes from and where it shall land."""

    category: str
    source_uid: str
    source_name: str
    pipeline_id: int
    created_at: int


def receive(
    account: Account,
    incoming: Incoming,
    metadata: dict[str, Any],
    *,
    lead: LeadFields | None,
    clients: Sequence[CardBody],
    call: SipMetadata | None,
    by: int,
    rid: str,
) -> Unsorted:
    """Hidden cards, the entry that holds them and, if asked for, the call's own note."""
    line = account.pipelines[incoming.pipeline_id]
    given = lead.attributes(account) if lead else {"name": f"Call from {metadata.get('phone', '')}".strip()}
    hidden = {"is_unsorted": True, "pipeline_id": line.id, "status_id": line.unsorted_status.id}
    card = account.add_card(Kind.LEADS, given | hidden, by=by, request_id=rid or None)
    made = [
        account.add_card(body.kind, body.attributes(account) | {"is_unsorted": True}, by=by, request_id=rid or None)
        for body in clients
    ]
    for client in made:
        account.tie(Link(Kind.LEADS, card.id, client.kind, client.id))
    tie_contacts_to_companies(account, made)
    entry = Unsorted(
        uid=account.new_uid(),
        category=incoming.category,
        source_uid=incoming.source_uid,
        source_name=incoming.source_name,
        pipeline_id=line.id,
        created_at=incoming.created_at,
        metadata=metadata,
        lead_id=card.id,
        contact_ids=tuple(client.id for client in made if client.kind is Kind.CONTACTS),
        company_ids=tuple(client.id for client in made if client.kind is Kind.COMPANIES),
    )
    account.add_unsorted(entry, rid or None)
    if call is not None and call.is_call_event_needed:
        _note_call(account, card, metadata)
    return entry


def tie_contacts_to_companies(account: Account, made: Sequence[Card]) -> None:
    contacts = [card for card in made if card.kind is Kind.CONTACTS]
    for company in (card for card in made if card.kind is Kind.COMPANIES):
        for contact in contacts:
            account.tie(Link(Kind.CONTACTS, contact.id, Kind.COMPANIES, company.id))


def _note_call(account: Account, card: Card, metadata: dict[str, Any]) -> None:
    kept = ("uniq", "duration", "link", "phone", "call_responsible")
    params = {key: metadata[key] for key in kept if key in metadata} | {"source": metadata.get("service_code", "")}
    callee = metadata.get("call_responsible")
    given: dict[str, Any] = {"note_type": "call_in", "params": params}
    if isinstance(callee, int) and callee:
        given["created_by"] = callee
    if "called_at" in metadata:
        given["created_at"] = metadata["called_at"]
    account.add_note(card, given, by=0)
