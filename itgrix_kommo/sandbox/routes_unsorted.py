"""Incoming leads: handed in, listed, accepted and declined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import filters, hal, incoming
from .bodies import parse_items, parse_object, request_id
from .problems import ApiError
from .records import Unsorted
from .unsorted_bodies import AcceptBody, DeclineBody, FormBody, SipBody, SipMetadata, UnsortedLinkBody

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from .visit import Handler, Visit


async def add_sip(visit: Visit) -> web.Response:
    return _added(visit, "sip", parse_items(await visit.json(), SipBody, visit.account))


async def add_forms(visit: Visit) -> web.Response:
    return _added(visit, "forms", parse_items(await visit.json(), FormBody, visit.account))


def _added(visit: Visit, category: str, bodies: Sequence[SipBody | FormBody]) -> web.Response:
    account = visit.account
    for index, body in enumerate(bodies):
        if incoming.pipeline_of(account, body.pipeline_id) is None:
            raise ApiError(400, "Incoming leads are turned off", request_id=request_id(body, index))
    _refuse_identical(visit, bodies)
    answers = []
    for index, body in enumerate(bodies):
        entry = _receive(visit, category, body)
        answers.append(
            {
                "uid": entry.uid,
                "account_id": account.id,
                "request_id": request_id(body, index),
                **hal.links(visit.base, f"leads/unsorted/{entry.uid}"),
                "_embedded": hal.unsorted_cards(account, visit.base, entry),
            }
        )
    return visit.embed("unsorted", answers, _total_items=len(answers))


def _refuse_identical(visit: Visit, bodies: Sequence[SipBody | FormBody]) -> None:
    if visit.account.switches.identical_unsorted == "accepted":
        return
    known = {
        incoming.identity(entry.source_uid, entry.source_name, dict(entry.metadata))
        for entry in visit.account.unsorted.values()
    }
    for index, body in enumerate(bodies):
        name = incoming.identity(body.source_uid, body.source_name, body.metadata.kept())
        if name in known:
            raise ApiError(400, "Incoming lead already exists", request_id=request_id(body, index))
        known.add(name)


def _receive(visit: Visit, category: str, body: SipBody | FormBody) -> Unsorted:
    account, embedded = visit.account, body.embedded
    line = body.pipeline_id or account.main_pipeline.id
    return incoming.receive(
        account,
        incoming.Incoming(category, body.source_uid, body.source_name, line, body.created_at or account.now()),
        body.metadata.kept(),
        lead=embedded.leads[0] if embedded.leads else None,
        clients=[*embedded.contacts, *embedded.companies],
        call=body.metadata if isinstance(body.metadata, SipMetadata) else None,
        by=visit.user.id,
        rid=body.request_id,
    )


def _pending(visit: Visit) -> Unsorted:
    entry = visit.account.unsorted.get(visit.part("uid"))
    if entry is None or entry.state != "pending":
        raise ApiError(404, "Unsorted not found")
    return entry


async def list_unsorted(visit: Visit) -> web.Response:
    """These filters are the entry's own and heeded everywhere."""
    found = [
        entry
        for entry in visit.account.unsorted.values()
        if entry.state == "pending"
        and all(
            not visit.filter(name) or str(getattr(entry, name)) in visit.filter(name)
            for name in ("uid", "category", "pipeline_id")
        )
    ]
    order = visit.query.get("order")
    found.sort(
        key=lambda entry: entry.created_at, reverse=isinstance(order, dict) and order.get("created_at") == "desc"
    )
    return visit.listing("unsorted", found, lambda entry: hal.unsorted(visit.account, visit.base, entry))


async def get_unsorted(visit: Visit) -> web.Response:
    return visit.answer(hal.unsorted(visit.account, visit.base, _pending(visit)))


async def summary(visit: Visit) -> web.Response:
    tree = visit.query.get("filter", {})
    lines = visit.filter("pipeline_id")
    found = [
        entry
        for entry in visit.account.unsorted.values()
        if filters.within(tree if isinstance(tree, dict) else {}, "created_at", entry.created_at)
        and (not lines or str(entry.pipeline_id) in lines)
    ]
    times = [entry.sorted_at - entry.created_at for entry in found if entry.sorted_at is not None]
    categories = sorted({entry.category for entry in found})
    return visit.answer(
        {
            "total": len(found),
            "accepted": sum(entry.state == "accepted" for entry in found),
            "declined": sum(entry.state == "declined" for entry in found),
            "average_sort_time": sum(times) // len(times) if times else 0,
            "categories": {name: {"total": sum(entry.category == name for entry in found)} for name in categories},
            **hal.links(visit.base, "leads/unsorted/summary"),
        }
    )


async def accept(visit: Visit) -> web.Response:
    entry = _pending(visit)
    body = parse_object(await _optional_json(visit), AcceptBody, visit.account)
    if "status_id" in body.model_fields_set:
        stage = visit.account.stage(body.status_id, entry.pipeline_id)
        if stage is None or stage[1].type == 1:
            raise ApiError(400, "Status not found")
    by = body.user_id or visit.user.id
    return _sorted(visit, visit.account.sort(entry, accepted=True, by=by, status_id=body.status_id or None))


async def decline(visit: Visit) -> web.Response:
    entry = _pending(visit)
    body = parse_object(await _optional_json(visit), DeclineBody, visit.account)
    return _sorted(visit, visit.account.sort(entry, accepted=False, by=body.user_id))


async def _optional_json(visit: Visit) -> Any:
    return await visit.json() if await visit.request.read() else {}


def _sorted(visit: Visit, entry: Unsorted) -> web.Response:
    contacts = [visit.account.contacts[card_id] for card_id in entry.contact_ids]
    return visit.answer(
        {
            "uid": entry.uid,
            "pipeline_id": entry.pipeline_id,
            "category": entry.category,
            "created_at": entry.created_at,
            "_embedded": {
                "leads": [{"id": entry.lead_id}],
                "contacts": [
                    {"id": card.id, "is_deleted": card.is_deleted, "is_unsorted": card.is_unsorted} for card in contacts
                ],
                "companies": [{"id": card_id} for card_id in entry.company_ids],
            },
        }
    )


async def link_unsorted(visit: Visit) -> web.Response:
    """Only chats and mail can be linked to a lead, and neither can be made by the API."""
    _pending(visit)
    parse_object(await visit.json(), UnsortedLinkBody, visit.account)
    raise ApiError(400, "This category of unsorted can not be linked")


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/leads/unsorted", list_unsorted),
    ("POST", "/leads/unsorted/sip", add_sip),
    ("POST", "/leads/unsorted/forms", add_forms),
    ("GET", "/leads/unsorted/summary", summary),
    ("GET", "/leads/unsorted/{uid:[0-9A-Za-z]+}", get_unsorted),
    ("POST", "/leads/unsorted/{uid:[0-9A-Za-z]+}/accept", accept),
    ("DELETE", "/leads/unsorted/{uid:[0-9A-Za-z]+}/decline", decline),
    ("POST", "/leads/unsorted/{uid:[0-9A-Za-z]+}/link", link_unsorted),
]
