"""Leads that are made together with their contact and company, and may be recognised as doubles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import incoming, matching
from .bodies import parse_items, request_id
from .problems import ApiError
from .records import Card, Kind, Link
from .unsorted_bodies import ComplexLead, ComplexMetadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from .visit import Handler, Visit

_MOST = 50  # leads in one request


async def add_complex(visit: Visit) -> web.Response:
    raw = await visit.json()
    if isinstance(raw, list) and len(raw) > _MOST:
        raise ApiError(visit.account.switches.oversized_complex_status, f"Limit {_MOST} per request")
    bodies = parse_items(raw, ComplexLead, visit.account)
    for index, body in enumerate(bodies):
        if body.embedded.metadata is not None and incoming.pipeline_of(visit.account, body.pipeline_id) is None:
            raise ApiError(400, "Incoming leads are turned off", request_id=request_id(body, index))
    known = set(visit.account.contacts)  # no search for doubles inside one request
    return visit.answer([_made(visit, body, index, known) for index, body in enumerate(bodies)])


def _made(visit: Visit, body: ComplexLead, index: int, known: set[int]) -> dict[str, Any]:
    account, by, rid = visit.account, visit.user.id, body.request_id or None
    double = _double(visit, body, known) if account.switches.duplicate_control else None
    merged = double is not None
    if body.embedded.metadata is not None and double is None:
        return _incoming(visit, body, body.embedded.metadata, index)
    leads = account.open_leads(double) if double else []
    lead = leads[0] if leads else account.add_card(Kind.LEADS, body.attributes(account), by=by, request_id=rid)
    clients = [double] if double else []
    given = [*(body.embedded.contacts if double is None else []), *body.embedded.companies]
    clients += [account.add_card(client.kind, client.attributes(account), by=by, request_id=rid) for client in given]
    for card in clients:
        account.tie(Link(Kind.LEADS, lead.id, card.kind, card.id))
    incoming.tie_contacts_to_companies(account, clients)
    return _complex_answer(body, index, lead.id, clients, merged=merged)


def _incoming(visit: Visit, body: ComplexLead, metadata: ComplexMetadata, index: int) -> dict[str, Any]:
    account = visit.account
    uid = str(metadata.kept().get("uniq") or metadata.form_id)
    source = metadata.service_code or metadata.form_name
    entry = incoming.receive(
        account,
        incoming.Incoming(metadata.category, uid, source, body.pipeline_id or account.main_pipeline.id, account.now()),
        metadata.kept(),
        lead=body,
        clients=[*body.embedded.contacts, *body.embedded.companies],
        call=metadata,
        by=visit.user.id,
        rid=body.request_id,
    )
    cards = [account.contacts[card_id] for card_id in entry.contact_ids]
    cards += [account.companies[card_id] for card_id in entry.company_ids]
    return _complex_answer(body, index, entry.lead_id, cards, merged=False)


def _complex_answer(
    body: ComplexLead, index: int, lead_id: int, clients: Sequence[Card], *, merged: bool
) -> dict[str, Any]:
    ids = {card.kind: card.id for card in clients}
    return {
        "id": lead_id,
        "contact_id": ids.get(Kind.CONTACTS),
        "company_id": ids.get(Kind.COMPANIES),
        "request_id": [request_id(body, index)],
        "merged": merged,
    }


def _double(visit: Visit, body: ComplexLead, known: set[int]) -> Card | None:
    """The contact that this lead's contact repeats, by phone."""
    phones = [
        str(value.value)
        for contact in body.embedded.contacts
        for given in contact.custom_fields_values
        for field in [given.field(visit.account, Kind.CONTACTS)]
        if field and field.code == "PHONE"
        for value in given.values or ()
    ]
    owners = (matching.owner(visit.account, phone, matching.CALL_DIGITS) for phone in phones)
    return next((card for card in owners if card and card.kind is Kind.CONTACTS and card.id in known), None)


ROUTES: list[tuple[str, str, Handler]] = [("POST", "/leads/complex", add_complex)]
