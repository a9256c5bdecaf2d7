"""Contacts, companies and leads: found, shown, made, changed and tied to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from itgrix_kommo.kommo import brackets

from . import filters, hal
from .activity_bodies import LinkBody
from .bodies import parse_items, request_id
from .card_bodies import (
    CardBody,
    CardChange,
    CompanyBody,
    CompanyChange,
    ContactBody,
    ContactChange,
    LeadBody,
    LeadChange,
)
from .problems import ApiError, ItemError, ItemsRefused
from .records import Card, Kind, Link
from .visit import empty

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

    from .visit import Handler, Visit

_BODIES: dict[Kind, type[CardBody]] = {
    Kind.CONTACTS: ContactBody,
    Kind.COMPANIES: CompanyBody,
    Kind.LEADS: LeadBody,
}
_CHANGES: dict[Kind, type[CardChange]] = {
    Kind.CONTACTS: ContactChange,
    Kind.COMPANIES: CompanyChange,
    Kind.LEADS: LeadChange,
}
_TIES = {
    Kind.LEADS: (Kind.CONTACTS, Kind.COMPANIES),
    Kind.CONTACTS: (Kind.COMPANIES,),
    Kind.COMPANIES: (Kind.CONTACTS, Kind.LEADS),
}


def _kind(visit: Visit) -> Kind:
    return Kind(visit.part("kind"))


def parent(visit: Visit) -> Card:
    """The card that the path names; 404 where there is none."""
    card = visit.account.cards[_kind(visit)].get(visit.id())
    if card is None or card.is_deleted:
        raise ApiError(404, f"{_kind(visit).singular.capitalize()} not found")
    return card


async def list_cards(visit: Visit) -> web.Response:
    kind, with_ = _kind(visit), visit.with_
    found = filters.cards(visit, kind)
    return visit.listing(kind, found, lambda card: hal.card(visit.account, visit.base, card, with_))


async def get_card(visit: Visit) -> web.Response:
    card = visit.account.cards[_kind(visit)].get(visit.id())
    if card is None or card.is_deleted:
        return empty()
    return visit.answer(hal.card(visit.account, visit.base, card, visit.with_))


async def add_cards(visit: Visit) -> web.Response:
    kind = _kind(visit)
    bodies = parse_items(await visit.json(), _BODIES[kind], visit.account)
    answers = []
    for index, body in enumerate(bodies):
        card = visit.account.add_card(
            kind, body.attributes(visit.account), by=visit.user.id, request_id=body.request_id or None
        )
        if isinstance(body, LeadBody):
            _tie_new_lead(visit, card, body)
        shown = {} if kind is Kind.LEADS else {"is_deleted": False, "is_unsorted": False}
        if kind is Kind.COMPANIES:
            del shown["is_unsorted"]
        answers.append(hal.reference(visit.base, card, **shown, request_id=request_id(body, index)))
    return visit.embed(kind, answers)


def _tie_new_lead(visit: Visit, lead: Card, body: LeadBody) -> None:
    for ref in body.embedded.contacts:
        visit.account.tie(Link(Kind.LEADS, lead.id, Kind.CONTACTS, ref.id, ref.is_main))
    for ref in body.embedded.companies:
        visit.account.tie(Link(Kind.LEADS, lead.id, Kind.COMPANIES, ref.id))


async def change_cards(visit: Visit) -> web.Response:
    return visit.embed(_kind(visit), _changed(visit, await visit.json()))


async def change_card(visit: Visit) -> web.Response:
    """One object in, and for all that is documented a list of one out; the switch answers the bare object."""
    raw = await visit.json()
    if not isinstance(raw, dict):
        raise ItemsRefused([("0", [ItemError("FieldNotExpected", "0", "This field was not expected.")])])
    if not raw:
        raise ApiError(400)
    answers = _changed(visit, [raw | {"id": visit.id()}])
    if visit.account.switches.single_patch == "object":
        return visit.answer(answers[0])
    return visit.embed(_kind(visit), answers)


def _changed(visit: Visit, raw: object) -> list[dict[str, Any]]:
    account, kind = visit.account, _kind(visit)
    answers = []
    for index, body in enumerate(parse_items(raw, _CHANGES[kind], account)):
        old = account.cards[kind][body.id]
        card = account.change_card(old, body.attributes(account), by=visit.user.id)
        shown: dict[str, Any] = {"updated_at": card.updated_at, "request_id": request_id(body, index)}
        if kind is not Kind.LEADS:
            shown = {"name": card.name, "is_deleted": False, "is_unsorted": card.is_unsorted} | shown
        answers.append(hal.reference(visit.base, card, **shown))
    return answers


def _link_shape(link: Link, entity: tuple[Kind, int]) -> dict[str, Any]:
    """The link as seen from `entity`, whichever end keeps it."""
    here, there = (link.kind, link.id), (link.to_kind, link.to_id)
    if entity != here:
        here, there = there, here
    shape: dict[str, Any] = {
        "entity_id": here[1],
        "entity_type": here[0],
        "to_entity_id": there[1],
        "to_entity_type": there[0],
        "metadata": None,
    }
    if link.kind is Kind.LEADS and link.to_kind is Kind.CONTACTS:
        shape["metadata"] = {"main_contact": link.is_main}
    return shape


def _links_of(visit: Visit, kind: Kind, ids: Iterable[int]) -> list[dict[str, Any]]:
    return [_link_shape(link, (kind, card_id)) for card_id in ids for link in visit.account.links.of(kind, card_id)]


def _total(visit: Visit, shapes: list[dict[str, Any]]) -> web.Response:
    return visit.embed("links", shapes, _total_items=len(shapes))


async def list_links(visit: Visit) -> web.Response:
    card = parent(visit)
    to_type, to_id = visit.filter("to_entity_type"), visit.filter("to_entity_id")
    shapes = [
        shape
        for shape in _links_of(visit, card.kind, {card.id})
        if (not to_type or shape["to_entity_type"] in to_type) and (not to_id or str(shape["to_entity_id"]) in to_id)
    ]
    return _total(visit, shapes) if shapes else empty()


async def list_links_of_many(visit: Visit) -> web.Response:
    ids = sorted({number for text in visit.filter("entity_id") if (number := brackets.whole(text))})
    shapes = _links_of(visit, _kind(visit), ids)
    return _total(visit, shapes) if shapes else empty()


async def link(visit: Visit) -> web.Response:
    kept = [visit.account.tie(asked) for asked in await _asked_links(visit)]
    return _total(visit, [_link_shape(made, _seen_from(visit, made)) for made in kept])


async def unlink(visit: Visit) -> web.Response:
    for made in await _asked_links(visit):
        visit.account.untie(made)
    return empty()


def _seen_from(visit: Visit, made: Link) -> tuple[Kind, int]:
    return (made.kind, made.id) if made.kind is _kind(visit) else (made.to_kind, made.to_id)


async def _asked_links(visit: Visit) -> list[Link]:
    """The links of the body, each turned the way it is kept; 400 where Kommo knows no such tie."""
    account, kind = visit.account, _kind(visit)
    named = parent(visit) if "id" in visit.request.match_info else None
    asked, faulty = [], []
    for index, body in enumerate(parse_items(await visit.json(), LinkBody, account)):
        here = named or account.cards[kind].get(body.entity_id)
        there = body.target(account)
        if here is None or here.is_deleted or there is None or there.kind not in _TIES[kind]:
            path = "entity_id" if here is None or here.is_deleted else "to_entity_type"
            error = ItemError("NotSupportedChoice", path, "The value you selected is not a valid choice.")
            faulty.append((request_id(body, index), [error]))
        elif here.kind is Kind.COMPANIES:
            asked.append(Link(there.kind, there.id, here.kind, here.id))
        else:
            asked.append(Link(here.kind, here.id, there.kind, there.id, body.metadata.is_main))
    if faulty:
        raise ItemsRefused(faulty)
    return asked


_KIND = "/{kind:contacts|companies|leads}"
ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", _KIND, list_cards),
    ("POST", _KIND, add_cards),
    ("PATCH", _KIND, change_cards),
    ("GET", _KIND + "/{id:[0-9]+}", get_card),
    ("PATCH", _KIND + "/{id:[0-9]+}", change_card),
    ("GET", _KIND + "/links", list_links_of_many),
    ("POST", _KIND + "/link", link),
    ("POST", _KIND + "/unlink", unlink),
    ("GET", _KIND + "/{id:[0-9]+}/links", list_links),
    ("POST", _KIND + "/{id:[0-9]+}/link", link),
    ("POST", _KIND + "/{id:[0-9]+}/unlink", unlink),
]
